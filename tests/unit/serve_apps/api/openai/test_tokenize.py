import pytest

from route_requests import chat


def test_a_text_and_back(http, tiny_template):
    found = http.post("/tokenize", {"prompt": "Once upon a time", "return_token_strs": True}).json()
    assert found["tokens"] == tiny_template.encode_text("Once upon a time")
    assert (found["count"], found["max_model_len"]) == (len(found["tokens"]), 512)
    assert len(found["token_strs"]) == found["count"]
    bare = http.post("/tokenize", {"prompt": "Once upon a time", "add_special_tokens": False}).json()
    assert bare["tokens"] == found["tokens"][1:]
    assert bare["token_strs"] is None
    assert http.post("/detokenize", {"tokens": bare["tokens"]}).json() == {"prompt": "Once upon a time"}


def test_a_chat_has_the_tokens_that_its_answer_would_begin_with(http):
    tools = [{"type": "function", "function": {"name": "f"}}]
    for messages in (
        [{"role": "user", "content": "Who are you?"}],
        [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I am"}],
    ):
        found = http.post("/tokenize", {"model": "base:support", "messages": messages, "tools": tools}).json()
        assert chat(http, messages=messages, tools=tools).status_code == 200
        assert found["tokens"] == list(http.generator.asked[-1][0][0].prompt_ids)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/tokenize", {}, 400),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "x"}]}, 400),
        ("/tokenize", {"prompt": "a", "model": "gpt-4"}, 404),
        ("/tokenize", {"prompt": "a", "colour": 1}, 400),
        ("/detokenize", {"tokens": []}, 400),
        ("/detokenize", {"tokens": [10**8]}, 400),
        ("/detokenize", {"tokens": [1], "model": "gpt-4"}, 404),
    ],
)
def test_what_has_no_tokens_is_refused(http, path, body, status):
    response = http.post(path, body)
    assert response.status_code == status, response.text
