import json

import pytest

from route_requests import events, predict


def test_predict_names_what_answered(http):
    answer = predict(http, adapter="support").json()
    assert set(answer) == {"id", "text", "finish_reason", "usage", "model", "timings"}
    assert (answer["model"]["adapter"], answer["model"]["version"]) == ("support", 1)
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
    assert predict(http).json()["model"]["adapter"] is None


def test_a_stream_gives_the_same_text_in_pieces(http):
    whole = predict(http).json()
    *tokens, (name, done) = events(predict(http, stream=True).text)
    assert name == "done"
    assert {name for name, _ in tokens} == {"token"}
    assert "".join(value["text"] for _, value in tokens).strip() == whole["text"]
    assert done["usage"] == whole["usage"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "give either 'prompt' or 'messages'"),
        ({"prompt": "x", "temperature": -1}, "temperature"),
        ({"prompt": "x", "stop": ["a"] * 100}, "stop"),
        ({"prompt": "x", "max_new_tokens": 257}, "max_new_tokens: 257 is over the limit of 256"),
        ({"prompt": "x", "min_p": 2}, "min_p"),
        ({"prompt": "word " * 400, "max_new_tokens": 200}, "context of 512"),
        ({"prompt": "word " * 600}, "the context of 512 leaves no room"),
        ({"prompt": "x", "foo": 1}, "foo"),
        ({"prompt": "\ud800"}, "unicode"),
    ],
)
def test_wrong_input_is_named_and_costs_no_slot(http, body, words):
    response = http.post("/predict", content=json.dumps(body).encode(), headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    assert words in response.json()["detail"]
    assert http.generator.asked == []


def test_what_the_adapter_may_be(http):
    assert predict(http, adapter="nobody").status_code == 404
    assert predict(http, adapter="support@blue").status_code == 404
    assert predict(http, adapter="support@7").status_code == 404
    assert predict(http, adapter="../x").status_code == 400


def test_the_deadline_ends_the_work(make_http):
    http = make_http(step_s=0.05, limits={"request_timeout_s": 0.3})
    response = predict(http, max_new_tokens=200)
    assert (response.status_code, response.json()["code"]) == (504, "deadline")
    assert http.generator.engine.stats().running == 0


def test_an_answer_that_was_empty_can_be_gone_on_from(http):
    turns = [{"role": r, "content": c} for r, c in (("user", "a"), ("assistant", ""), ("user", "b"))]
    assert http.post("/predict", {"messages": turns, "max_new_tokens": 2}).status_code == 200
    refused = http.post("/predict", {"messages": [{"role": "user", "content": " "}]})
    assert (refused.status_code, refused.json()["field"]) == (400, "messages.0")
