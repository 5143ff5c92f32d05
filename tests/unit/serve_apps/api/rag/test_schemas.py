import pytest
from pydantic import ValidationError

from serve_apps.api.rag.schemas import MAX_QUESTION_CHARS, RagRequest


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "either 'question' or 'messages'"),
        ({"question": "a", "messages": [{"role": "user", "content": "b"}]}, "either 'question' or 'messages'"),
        ({"question": "x" * (MAX_QUESTION_CHARS + 1)}, "at most 8000"),
        ({"messages": [{"role": "user", "content": "x" * (MAX_QUESTION_CHARS + 1)}]}, "more than 8000"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "must be the user's"),
        ({"question": "a", "top_kk": 3}, "top_kk"),
    ],
)
def test_a_question_that_cannot_be_asked_says_why(body, words):
    with pytest.raises(ValidationError, match=words):
        RagRequest.model_validate(body)


def test_a_question_and_a_conversation_are_taken():
    assert RagRequest(question="a").question == "a"
    assert RagRequest.model_validate({"messages": [{"role": "user", "content": "a"}]}).messages[0].content == "a"
