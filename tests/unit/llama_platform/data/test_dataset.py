import json

import pytest

from artifact_folders import fetched_folder
from datasets_of_sources import publish_sources
from llama_platform.artifacts.repository import open_repository
from llama_platform.data.config import DataConfig
from llama_platform.data.dataset import find_chat
from llama_platform.data.report.token_view import view_tokens
from llama_platform.errors import InputError


@pytest.fixture
def repository(tmp_path):
    return open_repository((tmp_path / "store").as_uri(), tmp_path / "cache")


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "chats.jsonl"
    records = [{"input": f"question {n} of {n * n}", "output": f"answer {n * 3}"} for n in range(20)]
    path.write_text("\n".join(map(json.dumps, records)))
    return DataConfig(sources=(str(path),), report_folder=tmp_path / "reports")


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
