import json

import pytest

CHAT = "/v1/chat/completions"


def chat(http, **fields):
    body = {"model": "base:support", "messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0}
    return http.post(CHAT, body | {"max_tokens": 12} | fields)


def complete(http, **fields):
    return http.post("/v1/completions", {"model": "base", "prompt": "Once upon", "temperature": 0, **fields})


def chunks(response):
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


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


def test_several_answers_differ_by_seed_and_repeat(http):
    def texts(**fields):
        return [c["message"]["content"] for c in chat(http, n=3, temperature=1.5, seed=5, **fields).json()["choices"]]

    first = texts()
    assert len(set(first)) > 1
    assert texts() == first
    streamed = {0: "", 1: "", 2: ""}
    for chunk in chunks(chat(http, n=3, temperature=1.5, seed=5, stream=True)):
        choice = chunk["choices"][0]
        streamed[choice["index"]] += choice["delta"].get("content", "")
    assert [streamed[n].strip() for n in range(3)] == first


def test_chat_logprobs_are_of_the_tokens(http):
    choice = chat(http, logprobs=True, top_logprobs=2).json()["choices"][0]
    content = choice["logprobs"]["content"]
    assert "".join(one["token"] for one in content).strip() == choice["message"]["content"]
    assert all(len(one["top_logprobs"]) == 2 and one["logprob"] <= 0 for one in content)
    assert bytes(content[0]["bytes"]).decode() == content[0]["token"]


def test_a_completion_goes_on_with_its_prompt(http):
    answer = complete(http, max_tokens=5, echo=True, logprobs=2, prompt=["Once upon", "The"]).json()
    first, second = answer["choices"]
    assert first["text"].startswith("Once upon")
    assert second["text"].startswith("The")
    found = first["logprobs"]
    assert (found["tokens"][0], found["token_logprobs"][0], found["top_logprobs"][0]) == ("<s>", None, None)
    assert "".join(found["tokens"][1:]) == first["text"]
    for offset, token in list(zip(found["text_offset"], found["tokens"], strict=True))[1:]:
        assert first["text"][offset : offset + len(token)] == token
    assert answer["usage"]["prompt_tokens"] == len(found["tokens"]) - 5 + len(second["logprobs"]["tokens"]) - 5


def test_a_prompt_can_be_scored_without_an_answer(http, tiny_template):
    ids = tiny_template.encode_text("Once upon a time")[1:]
    answer = complete(http, prompt=ids, max_tokens=0, echo=True, logprobs=1).json()
    (choice,) = answer["choices"]
    assert choice["text"] == "Once upon a time"
    assert len(choice["logprobs"]["tokens"]) == len(ids)
    assert answer["usage"] | {"prompt_tokens_details": None} == {
        "prompt_tokens": len(ids), "completion_tokens": 0, "total_tokens": len(ids), "prompt_tokens_details": None,
    }  # fmt: skip


def test_a_streamed_completion_is_the_same_text(http):
    whole = complete(http, max_tokens=8).json()["choices"][0]["text"]
    assert "".join(c["choices"][0]["text"] for c in chunks(complete(http, max_tokens=8, stream=True))) == whole


def test_models_are_the_base_and_what_is_live(http):
    assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["base", "base:support"]
    assert http.get("/v1/models/base:support").json()["version"] == 1
    assert http.get("/v1/models/gpt-4").status_code == 404


@pytest.mark.parametrize(
    ("fields", "status", "param", "words"),
    [
        ({"temperature": -1}, 400, "temperature", "greater than"),
        ({"messages": []}, 400, "messages", "at least 1"),
        ({"messages": [{"role": "alien", "content": "x"}]}, 400, "messages.0.role", "'system'"),
        ({"messages": [{"role": "user", "content": " "}]}, 400, "messages.0", "empty"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, 400, None, "text"),
        ({"max_tokens": 10_000}, 400, "max_tokens", "limit of 256"),
        ({"stop": ["a"] * 100}, 400, None, "at most 8"),
        ({"n": 9}, 400, None, "limit of 8"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format", "not supported"),
        ({"tools": [{"type": "function"}]}, 400, "tools", "not supported"),
        ({"logit_bias": {"5": 1}}, 400, "logit_bias", "not supported"),
        ({"top_logprobs": 2}, 400, "top_logprobs", "needs"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options", "needs"),
        ({"unheard_of": 1}, 400, "unheard_of", "not permitted"),
        ({"model": "base:nobody"}, 404, "model", "no alias"),
        ({"model": "base:"}, 404, "model", "no model"),
        ({"model": "base:../x"}, 404, "model", "no model"),
        ({"model": "gpt-4"}, 404, "model", "/v1/models lists them"),
    ],
)
def test_wrong_chats_are_named_in_openais_form(http, fields, status, param, words):
    response = chat(http, **fields)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert words in error["message"]
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    if param:
        assert error["param"] == param
    assert http.generator.asked == []


def test_what_asks_for_nothing_is_accepted(http):
    harmless = {"tools": [], "response_format": {"type": "text"}, "logit_bias": {}, "metadata": {"a": "b"}, "n": None}
    assert chat(http, **harmless).status_code == 200


def test_a_failure_after_the_start_is_an_event_without_done(make_http):
    http = make_http(step_s=0.05, limits={"request_timeout_s": 0.3, "max_new_tokens": 256})
    text = chat(http, max_tokens=200, stream=True).text
    last = json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] == "deadline"
    assert "[DONE]" not in text
