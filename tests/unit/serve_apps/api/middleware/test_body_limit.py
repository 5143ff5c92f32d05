import asyncio
import re

from serve_apps.api.middleware import body_limit
from serve_apps.api.middleware.body_limit import BodyLimit, Uploads


def status_of(in_context, receive):
    """Return the status that a request of five announced bytes gets when they come from `receive`."""
    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"5")]
    scope = {"type": "http", "method": "POST", "headers": headers, "path": "/"}
    asyncio.run(in_context(BodyLimit(None, 100, Uploads(re.compile("x"), 1, None)))(scope, receive, send))
    return sent[0]["status"]


def test_a_body_within_the_limit_arrives(client, observed):
    response = client.post("/echo/a", json={"a": 1}, headers={"x-request-id": "abc"})
    assert response.json() == {"id": "abc", "a": 1}
    assert observed == [("/echo/{name}", "ok")]


def test_an_empty_body_is_answered(client):
    assert client.post("/echo/a", headers={"content-type": "application/json"}).status_code == 422
    assert client.post("/echo/a").status_code == 422


def test_a_large_body_is_refused_announced_or_not(client, observed):
    headers = {"content-type": "application/json"}
    assert client.post("/echo/a", content=b"x" * 101, headers=headers).status_code == 413
    assert client.post("/echo/a", content=iter([b"x" * 60, b"x" * 60]), headers=headers).status_code == 413
    assert observed == [("none", "body_too_large")] * 2


def test_other_content_is_refused(client):
    response = client.post("/echo/a", content=b"{}", headers={"content-type": "text/plain"})
    assert (response.status_code, response.json()["code"]) == (415, "not_json")


def test_forms_are_taken_where_they_belong_and_from_whom_they_may_come(client):
    def send(path, size, who="me"):
        headers = {"content-type": "multipart/form-data; boundary=x", "authorization": who}
        return client.post(path, content=b"x" * size, headers=headers).status_code

    assert send("/upload", 150) == 200
    assert send("/upload", 300) == 413
    assert send("/upload", 150, "stranger") == 401
    assert send("/echo/x", 50) == 415


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch, in_context):
    monkeypatch.setattr(body_limit, "BODY_TIMEOUT_S", 0.1)

    async def never():
        await asyncio.sleep(10)

    assert status_of(in_context, never) == 408


def test_half_a_body_never_reaches_a_route(in_context):
    messages = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return messages.pop(0)

    assert status_of(in_context, receive) == 400


def test_more_bodies_than_are_read_at_once_are_refused(in_context):
    async def never():
        await asyncio.sleep(10)

    async def story():
        app = in_context(BodyLimit(None, 100, Uploads(re.compile("x"), 1, None), max_reading=2))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"5")]
        sent = []

        async def send(message):
            sent.append(message)

        def ask():
            return app({"type": "http", "method": "POST", "headers": headers, "path": "/"}, never, send)

        waiting = [asyncio.ensure_future(ask()) for _ in range(2)]
        await asyncio.sleep(0.05)
        await ask()
        assert sent[0]["status"] == 503
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(story())
