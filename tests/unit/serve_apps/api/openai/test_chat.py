import pytest

from route_requests import chat, chunks


def test_a_chat_is_answered_in_openais_form(http):
    answer = chat(http).json()
    assert (answer["object"], answer["model"]) == ("chat.completion", "base:support")
    (choice,) = answer["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] in ("stop", "length")
    assert answer["usage"]["completion_tokens"] > 0


def test_a_streamed_chat_is_the_same_text(http):
    whole = chat(http).json()
    got = chunks(chat(http, stream=True, stream_options={"include_usage": True}))
    assert got[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in got[:-1])
    assert text.strip() == whole["choices"][0]["message"]["content"]
    assert got[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert (got[-1]["choices"], got[-1]["usage"]) == ([], whole["usage"])
    assert len({c["id"] for c in got}) == 1


def test_chat_logprobs_are_of_the_tokens(http):
    choice = chat(http, logprobs=True, top_logprobs=2).json()["choices"][0]
    content = choice["logprobs"]["content"]
    assert "".join(one["token"] for one in content).strip() == choice["message"]["content"]
    assert all(len(one["top_logprobs"]) == 2 and one["logprob"] <= 0 for one in content)
    assert bytes(content[0]["bytes"]).decode() == content[0]["token"]


@pytest.mark.parametrize(
    ("roles", "contents"),
    [
        (["user", "user"], ["Who", "are you?"]), (["assistant", "user"], ["Hello.", "Who are you?"]),
        (["system", "system", "user"], ["a", "b", "hi"]), (["system", "developer", "user"], ["a", "b", "hi"]),
        (["user", "system"], ["hi", "be kind"]), (["system", "user"], ["", "hi"]), (["user", "assistant"], ["Who?", "I am"]),
        (["user", "assistant", "assistant", "user"], ["a", "b", "c", "d"]), (["assistant"], ["I am"]),
    ],
)  # fmt: skip
def test_turns_in_any_order_are_answered(http, roles, contents):
    messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]
    response = chat(http, messages=messages)
    assert response.status_code == 200, response.text


def test_a_chat_that_ends_with_the_assistant_is_continued(http, tiny_template):
    chat(http, messages=[{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "My name is "}])
    (request,) = http.generator.asked[-1][0]
    text = tiny_template.tokenizer.decode(request.prompt_ids)
    assert text == "<s>### Human: Who are you?\n### Assistant: My name is"
    assert request.continues
