import pytest

from llama_platform.data.report.token_view import view_tokens
from llama_platform.models.prompt import Message


@pytest.mark.parametrize("text", ["Grüße, мир", "🦙 llama", "日本語", "plain", "a\ufffdb"])
def test_the_texts_of_the_tokens_are_the_chat(tiny_template, text):
    messages = [Message("user", text), Message("assistant", text)]
    viewed = view_tokens(messages, tiny_template)
    whole = "".join(token.text for token in viewed)
    assert whole == f"<s>### Human: {text}\n### Assistant: {text}</s>"
    assert sum(token.count for token in viewed) == len(tiny_template.encode_chat(messages).input_ids)
    assert "".join(token.text for token in viewed if token.trained) == f" {text}</s>"
