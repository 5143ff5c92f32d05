import json

import pytest

from route_requests import chat, chunks


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


def test_a_failure_after_the_start_is_an_event_without_done(make_http):
    http = make_http(step_s=0.05, limits={"request_timeout_s": 0.3, "max_new_tokens": 256})
    text = chat(http, max_tokens=200, stream=True).text
    last = json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] == "deadline"
    assert "[DONE]" not in text


@pytest.mark.parametrize("stream", [False, True])
def test_longer_answers_than_the_limit_are_cut_to_it_and_the_response_says_so(http, caplog, stream):
    caplog.set_level("INFO", logger="serve_apps.api.middleware.access_log")
    response = chat(http, max_tokens=10_000, stream=stream, ignore_eos=True)
    assert (response.status_code, response.headers["x-max-tokens-capped"]) == (200, "256")
    assert caplog.records[-1].max_tokens_capped == 256
    assert "x-max-tokens-capped" not in chat(http, max_tokens=5).headers
