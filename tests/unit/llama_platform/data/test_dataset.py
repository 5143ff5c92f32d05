import pytest

from artifact_folders import fetched_folder
from datasets_of_sources import publish_sources
from llama_platform.data.dataset import find_chat
from llama_platform.data.report.token_view import view_tokens
from llama_platform.errors import InputError


def test_a_chat_is_found_by_number_and_by_place_and_shown_token_by_token(repository, data, tiny_config, tiny_template):
    version, _ = publish_sources(repository, data, tiny_config)
    folder = fetched_folder(repository, version)
    source, messages = find_chat(folder, "0")
    assert find_chat(folder, source.rpartition("/")[2]) == (source, messages)
    tokens = view_tokens(messages, tiny_template)
    encoded = tiny_template.encode_chat(messages)
    assert [t.trained for t in tokens] == encoded.trained
    shown = "".join(t.text for t in tokens)
    assert messages[0].content in shown
    assert shown.startswith(tiny_template.tokenizer.bos_token)
    assert shown.endswith(tiny_template.tokenizer.eos_token)
    with pytest.raises(InputError, match="no chat"):
        find_chat(folder, "chats.jsonl:999")
