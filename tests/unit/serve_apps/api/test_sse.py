import asyncio
import json

from route_requests import events, predict
from serve_apps.api.sse import message


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


def test_no_text_breaks_the_line_of_its_event():
    event = message({"text": "a\u2028b\u2029c\x85d"})
    assert event.splitlines() == ['data: {"text":"a\\u2028b\\u2029c\\u0085d"}', ""]
    assert json.loads(event.removeprefix("data: "))["text"] == "a\u2028b\u2029c\x85d"
