"""One record for each request that does something, before it is answered."""

import asyncio
import hashlib

import pytest

from llama_platform.access.registry import KeyRegistry

CHAT = {"model": "base", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
BODIES = {
    "/predict": {"prompt": "hi", "max_new_tokens": 4, "temperature": 0},
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "base", "prompt": "hi", "max_tokens": 4},
    "/v1/embeddings": {"model": "all-MiniLM-L6-v2", "input": "hi"},
    "/v1/rerank": {"query": "hi", "documents": ["hi"]},
    "/rag": {"question": "hi", "max_new_tokens": 4, "documents": [{"text": "hi there"}]},
}


@pytest.mark.parametrize("path", BODIES)
def test_a_request_has_a_record_without_its_texts(make_http, repository, path):
    key, text = KeyRegistry(repository.store).create("k", "acme", ("generate", "rag", "embed"), ("*",), ("*",))
    http = make_http(auth={"mode": "keys"}, index="docs", rag={"rerank": "judge"})
    response = http.post(path, BODIES[path], headers={"Authorization": f"Bearer {text}"})
    ((kind, record),) = http.trail.records
    assert (kind, record["route"], record["status"], response.status_code) == ("request", path, 200, 200)
    assert (record["tenant"], record["key"], record["method"]) == ("acme", key.id, "POST")
    assert record["request"]
    assert text.rpartition("_")[2] not in str(record)
    if path not in ("/v1/embeddings", "/v1/rerank"):
        (generation,) = record["generations"]
        assert set(generation) == {"prompt_sha256", "answer_sha256", "continues", "sampling"}
        assert record["tokens"]["completion_tokens"] > 0
        ids = list(http.generator.asked[0][0][0].prompt_ids)
        assert generation["prompt_sha256"] == hashlib.sha256(str(ids).encode()).hexdigest()


@pytest.mark.parametrize("stream", [False, True])
def test_prompts_and_answers_are_kept_where_that_is_wished(make_http, stream):
    http = make_http(audit={"content": "full"})
    response = http.post("/predict", {**BODIES["/predict"], "adapter": "support", "stream": stream})
    kinds = [kind for kind, _ in http.trail.records]
    assert kinds == (["begin", "end"] if stream else ["request"])
    record = http.trail.records[-1][1]
    assert (record["adapter"], record["version"], record["digest"]) == ("support", 1, "a" * 64)
    (generation,) = record["generations"]
    assert generation["prompt_ids"] == list(http.generator.asked[0][0][0].prompt_ids)
    if not stream:
        assert generation["answer"] == response.json()["text"]
    assert generation["answer"]
    assert generation["sampling"]["max_new_tokens"] == 4


def test_refusals_and_acts_have_records_and_looking_has_none(make_http, tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    http = make_http(admin_token_file=str(token))
    http.post("/predict", {"prompt": ""})
    http.post("/admin/adapters/support/promote", {"version": 1})
    for path in ("/health", "/health/live", "/openapi.json", "/nothing"):
        http.get(path)
    found = [(record["route"], record["status"], record["outcome"]) for _, record in http.trail.records]
    assert found == [
        ("/predict", 400, "invalid_input"),
        ("/admin/adapters/{name}/promote", 401, "unauthorized"),
    ]
    assert http.trail.records[1][1]["path"] == "/admin/adapters/support/promote"


def test_a_client_that_leaves_has_a_record(make_http):
    http = make_http(step_s=0.02)
    endless = {"model": "base", "prompt": "hi", "max_tokens": 200, "ignore_eos": True}

    async def leave():
        async with http.client() as client:
            task = asyncio.ensure_future(client.post("/v1/completions", json=endless))
            await asyncio.sleep(0.3)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0.1)

    asyncio.run(leave())
    ((kind, record),) = http.trail.records
    assert (kind, record["status"], record["outcome"]) == ("request", 0, "client_gone")


@pytest.mark.parametrize("path", ["/predict", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_answered_unseen_unless_that_is_allowed(make_http, path, stream):
    strict, lax = make_http(), make_http(audit={"on_failure": "allow"})
    for http, status in ((strict, 503), (lax, 200)):
        http.trail.broken = True
        assert http.post(path, {**BODIES[path], "stream": stream}).status_code == status
        http.trail.broken = False
        assert http.post(path, {**BODIES[path], "stream": stream}).status_code == 200


def test_without_a_trail_nothing_is_recorded(make_http):
    http = make_http(audit={"enabled": False})
    assert http.post("/predict", BODIES["/predict"]).status_code == 200
    assert http.trail is None
