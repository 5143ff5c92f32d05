"""Fixtures of the training tests."""

import pytest

from llama_platform.models.prompt import Message


@pytest.fixture
def chats(tiny_template):
    texts = [("hello", "hi there"), ("what is a lamp for", "a lamp is used to give light"), ("bye", "see you")]
    encoded = [tiny_template.encode_chat([Message("user", q), Message("assistant", a)]) for q, a in texts]
    return [{"input_ids": chat.input_ids, "trained": chat.trained} for chat in encoded]
