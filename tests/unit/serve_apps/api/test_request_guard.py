import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from serve_apps import request_guard
from serve_apps.request_guard import RequestGuard


@pytest.fixture
def client():
    api = FastAPI()
    api.add_middleware(RequestGuard, max_body_bytes=100)

    @api.post("/echo")
    async def echo(request: Request, body: dict) -> dict:
        return {"id": request.state.request_id, **body}

    return TestClient(api)


def test_a_body_within_the_limit_arrives(client):
    response = client.post("/echo", json={"a": 1}, headers={"x-request-id": "abc"})
    assert response.json() == {"id": "abc", "a": 1}


def test_an_empty_body_is_answered(client):
    assert client.post("/echo", headers={"content-type": "application/json"}).status_code == 422


def test_a_large_body_is_refused_announced_or_not(client):
    headers = {"content-type": "application/json"}
    assert client.post("/echo", content=b"x" * 101, headers=headers).status_code == 413
    assert client.post("/echo", content=iter([b"x" * 60, b"x" * 60]), headers=headers).status_code == 413


def test_other_content_is_refused(client):
    response = client.post("/echo", content=b"{}", headers={"content-type": "text/plain"})
    assert (response.status_code, response.json()["code"]) == (415, "not_json")


def test_an_id_that_could_harm_a_log_is_refused(client):
    assert client.post("/echo", json={}, headers={"x-request-id": "a b"}).status_code == 400


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    import asyncio

    monkeypatch.setattr(request_guard, "BODY_TIMEOUT_S", 0.1)
    sent = []

    async def never():
        await asyncio.sleep(10)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")], "path": "/"}
    asyncio.run(RequestGuard(None, 100)(scope, never, send))
    assert sent[0]["status"] == 408
