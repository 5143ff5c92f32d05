"""Limits of keys and tenants at every route that is counted."""

import json

import pytest

from llama_platform.access.keys import SCOPES
from llama_platform.access.quotas import Quotas
from llama_platform.access.registry import KeyRegistry
from llama_platform.access.usage import read_usage

CHAT = {"model": "base:support", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
BODIES = {
    "/predict": {"prompt": "hi", "max_new_tokens": 8, "adapter": "support"},
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "base:support", "prompt": "hi", "max_tokens": 8},
    "/v1/embeddings": {"model": "all-MiniLM-L6-v2", "input": "hi"},
    "/v1/rerank": {"query": "hi", "documents": ["hi"]},
    "/rag": {"question": "hi", "max_new_tokens": 8, "documents": [{"text": "hi there"}]},
}


@pytest.fixture
def make_key(repository):
    """Make a key of tenant acme with limits, and return the headers that it is sent with."""

    def make(name="k", tenant="acme", **limits):
        _, text = KeyRegistry(repository.store).create(
            name, tenant, SCOPES, ("support",), ("docs",), limits=Quotas(**limits)
        )
        return {"Authorization": f"Bearer {text}"}

    return make


@pytest.mark.parametrize("path", BODIES)
def test_requests_of_a_minute_at_every_route(make_key, make_http, path):
    headers = make_key(requests_per_minute=2)
    http = make_http(auth={"mode": "keys"}, index="docs", rag={"rerank": "judge"})
    answers = [http.post(path, BODIES[path], headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"requests_per_minute";q=2;w=60'
    assert answers[0].headers["ratelimit"].startswith('"requests_per_minute";r=1;t=')
    assert 50 < int(answers[2].headers["retry-after"]) <= 60
    body = answers[2].json()
    if path.startswith("/v1"):
        assert (body["error"]["code"], body["error"]["type"]) == ("rate_limit_exceeded", "rate_limit_error")
    else:
        assert body["code"] == "limit_exceeded"
        assert body["limit"] | {"resets_in_s": 0} == {
            "quota": "requests_per_minute", "limit": 2, "of": "key", "resets_in_s": 0,
        }  # fmt: skip


@pytest.mark.parametrize("path", BODIES)
def test_tokens_are_settled_at_every_route(make_key, make_http, repository, path):
    headers = make_key(tokens_per_day=100_000)
    http = make_http(auth={"mode": "keys"}, index="docs", rag={"rerank": "judge"})
    assert http.post(path, BODIES[path], headers=headers).status_code == 200
    answer = http.post(path, BODIES[path], headers=headers)
    left = int(answer.headers["ratelimit"].partition("r=")[2].partition(";")[0])
    http.usage.write()
    (row,) = read_usage(repository.store, *[next(iter(http.usage._counts)).day] * 2)
    assert (row.tenant, row.requests, row.failed) == ("acme", 2, 0)
    assert row.adapter == ("" if path in ("/v1/embeddings", "/v1/rerank") else "support" if path != "/rag" else "")
    used = row.prompt_tokens + row.completion_tokens
    # The first is settled, the second reserved when its headers were sent.
    assert 100_000 - 2 * used - 8 * 2 <= left <= 100_000 - used // 2


def test_a_stream_is_settled_to_what_was_sent_when_its_client_leaves(make_key, make_http):
    import asyncio

    headers = make_key(tokens_per_day=1000)
    http = make_http(step_s=0.02, auth={"mode": "keys"})

    async def leave():
        async with http.client() as client:
            body = {**BODIES["/predict"], "stream": True, "max_new_tokens": 200}
            task = asyncio.ensure_future(client.post("/predict", json=body, headers=headers))
            await asyncio.sleep(0.3)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            answer = await client.post("/predict", json=BODIES["/predict"], headers=headers)
            return int(answer.headers["ratelimit"].partition("r=")[2].partition(";")[0])

    left = asyncio.run(leave())
    assert 1000 - 200 + 50 < left < 990


def test_a_larger_answer_than_a_limit_allows_is_refused_for_good(make_key, make_http):
    headers = make_key(tokens_per_minute=50)
    http = make_http(auth={"mode": "keys"})
    answer = http.post("/predict", {"prompt": "hi", "max_new_tokens": 100}, headers=headers)
    assert (answer.status_code, "50 tokens per minute" in answer.json()["detail"]) == (400, True)


def test_limits_of_a_tenant_and_defaults_for_its_keys(make_key, make_http):
    first, second, other = make_key("a"), make_key("b"), make_key("c", "other")
    tenants = {"acme": {"limits": {"requests_per_minute": 3}, "key_limits": {"requests_per_minute": 2}}}
    http = make_http(auth={"mode": "keys"}, tenants=tenants)
    statuses = [http.post("/predict", BODIES["/predict"], headers=h).status_code for h in (first, first, first)]
    assert statuses == [200, 200, 429]
    answers = [http.post("/predict", BODIES["/predict"], headers=second) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json()["limit"]["of"] == "tenant"
    assert http.post("/predict", BODIES["/predict"], headers=other).status_code == 200


def test_what_is_no_work_of_a_key_is_not_counted(make_key, make_http):
    headers = make_key(requests_per_minute=1)
    http = make_http(auth={"mode": "keys"})
    for _ in range(3):
        assert http.get("/v1/models", headers=headers).status_code == 200
        assert http.get("/health").status_code == 200
    assert http.post("/predict", BODIES["/predict"], headers=headers).status_code == 200


def test_a_response_says_what_it_cost(make_key, make_http):
    headers = make_key()
    http = make_http(auth={"mode": "keys"}, prices={"prompt": 1, "completion": 1000, "header": True})
    answer = http.post("/predict", BODIES["/predict"], headers=headers)
    usage = answer.json()["usage"]
    cost = usage["prompt_tokens"] * 0.001 + usage["completion_tokens"]
    assert float(answer.headers["x-request-cost"]) == pytest.approx(cost, abs=1e-6)
    assert "x-request-cost" not in http.post("/predict", {}, headers=headers).headers


def test_no_figures_in_metrics_name_a_key(make_key, make_http):
    headers = make_key(requests_per_minute=1)
    http = make_http(auth={"mode": "keys"})
    for _ in range(2):
        http.post("/predict", BODIES["/predict"], headers=headers)
    key = headers["Authorization"].split("_")[1]
    assert key not in json.dumps([str(one) for one in vars(http.observed).values()])
