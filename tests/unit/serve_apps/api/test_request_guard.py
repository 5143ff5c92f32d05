import asyncio
import re

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from serve_apps.api import request_guard
from serve_apps.api.errors import problem_of
from serve_apps.api.request_guard import RequestGuard, Uploads

UPLOADS = Uploads(
    re.compile("/upload"), 200, lambda given, request: None if given == "me" else problem_of(401, "no", "no", request)
)


class Observed(list):
    def request(self, route, code, seconds):
        self.append((route, code))


@pytest.fixture
def observed():
    return Observed()


@pytest.fixture
def client(observed):
    api = FastAPI()
    api.add_middleware(RequestGuard, max_body_bytes=100, uploads=UPLOADS, observer=observed)

    @api.post("/echo/{name}")
    async def echo(request: Request, body: dict) -> dict:
        if "fail" in body:
            raise RuntimeError("secret")
        return {"id": request.state.request_id, **body}

    @api.post("/upload")
    async def upload(request: Request) -> int:
        return len(await request.body())

    return TestClient(api)


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


def test_an_id_that_could_harm_a_log_is_refused(client):
    assert client.post("/echo/a", json={}, headers={"x-request-id": "a b"}).status_code == 400


def test_what_nobody_expected_is_answered_without_its_reason(client, observed):
    response = client.post("/echo/a", json={"fail": 1})
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert "secret" not in response.text
    assert observed == [("/echo/{name}", "internal")]


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch, observed):
    monkeypatch.setattr(request_guard, "BODY_TIMEOUT_S", 0.1)
    sent = []

    async def never():
        await asyncio.sleep(10)

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"5")]
    scope = {"type": "http", "method": "POST", "headers": headers, "path": "/"}
    asyncio.run(RequestGuard(None, 100, UPLOADS, observed)(scope, never, send))
    assert sent[0]["status"] == 408
