import json

import pytest

from llama_platform.inference.protocol import FinishEvent, Timings, TokenEvent, TokenLogprob, Usage

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
        ({"stop": ["a"] * 100}, 400, None, "at most 8"),
        ({"n": 9}, 400, None, "limit of 8"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format", "not supported"),
        ({"tools": [{"type": "function"}]}, 400, "tools", "not supported"),
        ({"logit_bias": {"5": 1}}, 400, "logit_bias", "not supported"),
        ({"top_logprobs": 2}, 400, "top_logprobs", "needs"),
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


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": "word " * 600}]}, "leaves no room"),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": "word " * 380}], "max_tokens": 250},
            "over the context",
        ),
        ("completions", {"prompt": "word " * 600}, "leaves no room"),
    ],
)
def test_a_prompt_beyond_the_context_has_openais_code(http, path, body, words):
    response = http.post(f"/v1/{path}", {"model": "base", **body})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (
        400,
        "context_length_exceeded",
        "invalid_request_error",
    )
    assert words in error["message"]
    native = http.post("/predict", {"prompt": "word " * 600}).json()
    assert native["code"] == "invalid_input"


@pytest.mark.parametrize("stream", [False, True])
def test_longer_answers_than_the_limit_are_cut_to_it_and_the_response_says_so(http, caplog, stream):
    caplog.set_level("INFO", logger="serve_apps.api.middleware.access_log")
    response = chat(http, max_tokens=10_000, stream=stream, ignore_eos=True)
    assert (response.status_code, response.headers["x-max-tokens-capped"]) == (200, "256")
    assert caplog.records[-1].max_tokens_capped == 256
    assert "x-max-tokens-capped" not in chat(http, max_tokens=5).headers


@pytest.mark.parametrize("wish", [{"max_tokens": -1}, {"max_tokens": None}, {"max_completion_tokens": -1}])
def test_no_wish_is_no_wish(http, wish):
    assert chat(http, **wish).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": ""}, {"stop": ["", "x"]}, {"top_k": None, "min_p": None, "min_tokens": None, "ignore_eos": None},
        {"stream_options": {"include_usage": True}}, {"stream_options": {}}, {"repetition_penalty": None},
        {"stream": True, "stream_options": {"include_usage": None, "continuous_usage_stats": False}},
        {"use_beam_search": False, "length_penalty": 1.0, "stop_token_ids": [], "guided_json": None, "priority": 0},
        {"skip_special_tokens": True, "add_generation_prompt": True, "chat_template_kwargs": {}, "request_id": "x"},
        {"keep_alive": "5m", "options": {}, "think": False, "format": ""},
        {"transforms": [], "models": [], "provider": {"order": ["x"]}, "usage": {"include": True}, "reasoning": None},
        {"top_logprobs": 0}, {"prompt_cache_retention": "24h"}, {"tools": [], "tool_choice": "none"},
    ],
)  # fmt: skip
def test_fields_of_other_servers_that_ask_for_nothing_are_tolerated(http, fields):
    response = chat(http, **fields)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "fields",
    [
        {"use_beam_search": True}, {"length_penalty": 2.0}, {"stop_token_ids": [5]}, {"guided_json": {}}, {"think": True},
        {"options": {"num_ctx": 2048}}, {"transforms": ["middle-out"]}, {"plugins": [{"id": "web"}]}, {"best_of": 2},
    ],
)  # fmt: skip
def test_what_they_ask_for_is_refused_by_name(http, fields):
    error = chat(http, **fields).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_input", next(iter(fields)))


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


def test_messages_of_other_clients_are_tolerated(http):
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": "hi", "name": "ann", "images": []},
        {"role": "assistant", "content": "hello", "tool_calls": [], "refusal": None, "reasoning_content": ""},
        {"role": "user", "content": "Who are you?", "cache_control": {"type": "ephemeral"}},
    ]
    assert chat(http, messages=messages).status_code == 200
    messages[2]["tool_calls"] = [{"id": "x"}]
    assert "'tool_calls' is not supported" in chat(http, messages=messages).json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("echo", [False, True])
def test_offsets_count_characters_of_the_text(http, monkeypatch, tiny_template, stream, echo):
    if stream and echo:
        return  # refused: the prompt's log-probabilities come last
    text = " Grüße 😀 done"
    ids = tiny_template.tokenizer(text, add_special_tokens=False)["input_ids"]

    async def generate(requests, adapter):
        scores = [TokenLogprob(token, -1.0) for token in ids]
        half = len(ids) // 2
        prompt = tuple(TokenLogprob(token, -1.0) for token in requests[0].prompt_ids[1:]) if echo else ()
        yield [(0, TokenEvent("", tuple(ids[:half]), tuple(scores[:half])))]
        yield [(0, TokenEvent(text, tuple(ids[half:]), tuple(scores[half:])))]
        yield [(0, FinishEvent("stop", Usage(1, len(ids)), Timings(0.0, 0.0, 0.0), None, prompt))]

    monkeypatch.setattr(http.generator, "generate", generate)
    body = {"model": "base", "prompt": "мир!", "logprobs": 0, "stream": stream, "echo": echo}
    response = http.post("/v1/completions", body)
    if stream:
        blocks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        choices = [block["choices"][0] for block in blocks]
    else:
        choices = [response.json()["choices"][0]]
    whole = "".join(choice["text"] for choice in choices)
    found = [choice["logprobs"] for choice in choices if choice["logprobs"]]
    offsets = [place for one in found for place in one["text_offset"]]
    tokens = [token for one in found for token in one["tokens"]]
    assert whole == ("мир!" if echo else "") + text
    assert offsets == sorted(offsets)
    for place, token in zip(offsets, tokens, strict=True):
        if "\ufffd" not in token and token != "<s>":
            assert whole[place : place + len(token)] == token
