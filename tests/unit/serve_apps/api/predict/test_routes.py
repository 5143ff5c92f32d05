import asyncio
import json

import pytest

from llama_platform.inference.protocol import FinishEvent, Timings, TokenEvent, Usage


def predict(http, **fields):
    return http.post("/predict", {"prompt": "Who are you?", "temperature": 0, "max_new_tokens": 12, **fields})


def events(text):
    blocks = [block for block in text.strip().split("\n\n") if not block.startswith(":")]
    return [
        (b.split("\n")[0].removeprefix("event: "), json.loads(b.split("\n")[1].removeprefix("data: "))) for b in blocks
    ]


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


def test_a_deadline_after_the_start_is_an_event_of_the_stream(make_http):
    http = make_http(step_s=0.05, limits={"request_timeout_s": 0.3})
    *_, (name, problem) = events(predict(http, max_new_tokens=200, stream=True).text)
    assert (name, problem["code"], problem["status"]) == ("error", "deadline", 504)


def test_a_stream_without_news_beats(make_http):
    http = make_http(step_s=0.2, heartbeat_s=0.05)
    text = predict(http, max_new_tokens=3, stream=True).text
    assert text.count(": still here\n\n") >= 2
    assert events(text)[-1][0] == "done"


def test_a_client_that_leaves_frees_its_slot(make_http):
    http = make_http(step_s=0.01)

    async def leave():
        sent = asyncio.Queue()
        body = json.dumps({"prompt": "x", "max_new_tokens": 250, "stream": True, "temperature": 0}).encode()
        received = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if received:
                return received.pop()
            await sent.get()
            await sent.get()  # response start and a first piece
            return {"type": "http.disconnect"}

        async def send(message):
            await sent.put(message)

        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        scope = {
            "type": "http", "method": "POST", "path": "/predict", "headers": headers, "query_string": b"",
            "http_version": "1.1", "scheme": "http", "server": ("test", 80), "client": ("test", 1), "root_path": "",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
        }  # fmt: skip
        await http.api(scope, receive, send)
        return http.generator.engine.stats().running

    assert asyncio.run(leave()) == 0


def test_a_full_engine_says_when_to_come_back(http):
    http.generator.engine._max_in_flight = 0
    response = predict(http)
    assert (response.status_code, response.json()["code"]) == (429, "overloaded")
    assert response.headers["retry-after"] == "2"  # half of the 4 s that answers take


def test_every_request_is_logged_once_without_its_prompt(http, caplog):
    caplog.set_level("INFO", logger="serve_apps.api.middleware.access_log")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    http.post(
        "/predict",
        {"prompt": "a secret", "max_new_tokens": 5, "temperature": 0, "adapter": "support"},
        headers={"traceparent": trace},
    )
    predict(http, adapter="nobody")
    first, second = (r for r in caplog.records if r.name == "serve_apps.api.middleware.access_log")
    assert (first.path, first.status, first.adapter, first.version) == ("/predict", 200, "support", 1)
    assert first.outcome in ("stop", "length")
    assert first.trace == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert first.completion_tokens > 0
    assert "a secret" not in str(vars(first))
    assert (second.status, second.outcome) == (404, "not_found")
    assert http.observed.requests == [("/predict", first.outcome), ("/predict", "not_found")]
    assert len(http.observed.first_tokens) == 1


@pytest.mark.parametrize("text", [" Hello ", "\n Hello\n\n", "Hello"])
def test_a_stream_is_equal_to_the_whole_answer_white_space_too(http, monkeypatch, text):
    async def generate(requests, adapter):
        for piece in (text[:2], text[2:]):
            yield [(0, TokenEvent(piece, (300,)))]
        yield [(0, FinishEvent("stop", Usage(1, 2), Timings(0.0, 0.0, 0.0)))]

    monkeypatch.setattr(http.generator, "generate", generate)
    assert predict(http).json()["text"] == "Hello"
    *tokens, _ = events(predict(http, stream=True).text)
    assert "".join(value["text"] for _, value in tokens) == "Hello"
