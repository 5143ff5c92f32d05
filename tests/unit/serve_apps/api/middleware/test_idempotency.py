"""The same request twice is worked on once."""

import asyncio

import pytest

from llama_platform.access.registry import KeyRegistry
from llama_platform.errors import UnavailableError

BODY = {"prompt": "hi", "max_new_tokens": 5, "temperature": 0}


def post(http, key, body=None, path="/predict", **headers):
    return http.post(path, body or BODY, headers={"Idempotency-Key": key, **headers})


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_request_gets_the_same_answer_and_is_worked_on_once(http, stream):
    first, again = (post(http, "a1", {**BODY, "stream": stream}) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len(http.generator.asked) == 1
    assert post(http, "a2").headers.get("idempotency-replayed") is None
    assert len(http.generator.asked) == 2


def test_another_body_is_422_and_another_route_another_request(http):
    post(http, "a1")
    other = post(http, "a1", {**BODY, "prompt": "other"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    chat = {"model": "base", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    assert post(http, "a1", chat, "/v1/chat/completions").status_code == 200


def test_what_is_worked_on_is_409(make_http):
    http = make_http(step_s=0.05)

    async def ask():
        async with http.client() as client:
            first = asyncio.ensure_future(client.post("/predict", json=BODY, headers={"Idempotency-Key": "k"}))
            await asyncio.sleep(0.1)
            second = await client.post("/predict", json=BODY, headers={"Idempotency-Key": "k"})
            return (await first).status_code, second

    first, second = asyncio.run(ask())
    assert (first, second.status_code, second.json()["code"]) == (200, 409, "conflict")
    assert len(http.generator.asked) == 1


def test_a_client_that_leaves_frees_its_key(make_http):
    http = make_http(step_s=0.05)

    async def leave():
        async with http.client() as client:
            task = asyncio.ensure_future(client.post("/predict", json=BODY, headers={"Idempotency-Key": "k"}))
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return await client.post("/predict", json=BODY, headers={"Idempotency-Key": "k"})

    assert asyncio.run(leave()).status_code == 200
    assert len(http.generator.asked) == 2


def test_errors_of_the_request_are_kept_and_others_are_not(http, monkeypatch):
    assert [post(http, "a", {"prompt": ""}).status_code for _ in range(2)] == [400, 400]
    assert post(http, "a", {"prompt": ""}).headers["idempotency-replayed"] == "true"

    async def broken(requests, adapter):
        raise UnavailableError("gone")
        yield

    with monkeypatch.context() as patched:
        patched.setattr(http.generator, "generate", broken)
        assert post(http, "b").status_code == 503
    assert post(http, "b").status_code == 200


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ä"])
def test_what_is_no_key_is_named(http, key):
    answer = http._run("POST", "/predict", json=BODY, headers={"Idempotency-Key": key.encode()})
    assert (answer.status_code, "Idempotency-Key" in answer.json()["detail"]) == (400, True)


def test_keys_count_for_each_caller_by_itself_and_revoked_ones_get_nothing(make_http, repository):
    registry = KeyRegistry(repository.store)
    made = [registry.create(name, "acme", ("generate",), ("*",)) for name in ("ada", "bob")]
    http = make_http(auth={"mode": "keys"})
    for _, text in made:
        answer = post(http, "k", Authorization=f"Bearer {text}")
        assert (answer.status_code, "idempotency-replayed" in answer.headers) == (200, False)
    registry.revoke(made[0][0].id)
    http.api.state.state.keys.document = registry.read()
    assert post(http, "k", Authorization=f"Bearer {made[0][1]}").status_code == 401
    assert post(http, "k").status_code == 401
    assert post(http, "k", Authorization=f"Bearer {made[1][1]}").headers["idempotency-replayed"] == "true"


def test_answers_that_hold_secrets_are_kept_nowhere(make_http, tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    http = make_http(admin_token_file=str(token))
    headers = {"Authorization": "Bearer 0123456789abcdef"}
    first = post(http, "k", {"name": "a", "tenant": "t"}, "/admin/keys", **headers)
    again = post(http, "k", {"name": "a", "tenant": "t"}, "/admin/keys", **headers)
    assert (first.status_code, again.status_code) == (201, 409)
    assert http.api.state.state.replies._kept == {}
