"""Every route of the application with every kind of key."""

from datetime import UTC, datetime, timedelta

import pytest

from llama_platform.access.keys import SCOPES
from llama_platform.access.registry import KeyRegistry

OPEN = {
    "/",
    "/health",
    "/health/live",
    "/health/ready",
    "/docs",
    "/openapi.json",
    "/docs/oauth2-redirect",
    "/console",
    "/console/{path:path}",
}
OPEN_STATUSES = (200, 307)
SCOPE_OF = {"/predict": "generate", "/v1/chat/completions": "generate", "/v1/completions": "generate",
            "/tokenize": "generate", "/detokenize": "generate", "/v1/embeddings": "embed", "/v1/rerank": "embed",
            "/rag": "rag", "/feedback": "feedback"}  # fmt: skip
ANY_KEY = {"/v1/models", "/v1/models/{model}", "/model/info", "/me"}
BODIES = {
    "/predict": {"prompt": "hi", "max_new_tokens": 2, "adapter": "support"},
    "/v1/chat/completions": {
        "model": "base:support", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2,
    },
    "/v1/completions": {"model": "base:support", "prompt": "hi", "max_tokens": 2},
    "/v1/embeddings": {"model": "all-MiniLM-L6-v2", "input": "hi"},
    "/v1/rerank": {"query": "hi", "documents": ["hi"]},
    "/tokenize": {"prompt": "hi", "model": "base:support"},
    "/detokenize": {"tokens": [5], "model": "base:support"},
    "/rag": {"question": "tea", "max_new_tokens": 2, "index": "docs"},
}  # fmt: skip
PATH_VALUES = {
    "{path:path}": "index.html",
    "{run}": "a",
    "{model}": "base:support",
    "{name}": "support",
    "{job}": "index-docs-000000000000",
    "{key_id}": "f" * 12,
}


@pytest.fixture
def keys(repository):
    """Keys of each kind, by what is wrong with them."""
    registry = KeyRegistry(repository.store)
    now = datetime.now(UTC)

    def made(name, scopes=SCOPES, tenant="acme", names=("support", "docs"), **fields):
        return registry.create(name, tenant, scopes, names[:1], names[1:], **fields)

    _, right = made("right")
    revoked, revoked_text = made("revoked")
    registry.revoke(revoked.id)
    found = {
        "right": right,
        "bad": f"{right[:-1]}{'0' if right[-1] != '0' else '1'}",
        "nonsense": "x",
        "revoked": revoked_text,
        "expired": made("expired", expires=now - timedelta(seconds=1))[1],
        "other": made("other", tenant="other", names=("theirs", "theirs"))[1],
    }
    for scope in SCOPES:
        found[f"without {scope}"] = made(
            f"without-{scope.replace(':', '-')}", tuple(other for other in SCOPES if other != scope)
        )[1]
    return found


@pytest.fixture
def http(keys, make_http):
    return make_http(auth={"mode": "keys"}, index="docs", rag={"rerank": "judge"})


def routes(http):
    for path, methods in http.api.openapi()["paths"].items():
        for method in methods:
            yield method.upper(), path


def ask(http, method, path, key=None, headers=None):
    for name, value in PATH_VALUES.items():
        path = path.replace(name, value)
    headers = headers or ({} if key is None else {"Authorization": f"Bearer {key}"})
    body = {} if method == "GET" else {"json": BODIES.get(path, {})}
    return http._run(method, path, headers=headers, **body)


def scope_of(method, path):
    if path.startswith("/admin"):
        return "admin:read" if method == "GET" else "admin:write"
    return SCOPE_OF.get(path)


def test_every_route_with_every_key(http, keys):
    checked = 0
    for method, path in routes(http):
        if path in OPEN:
            assert ask(http, method, path).status_code in OPEN_STATUSES, path
            continue
        assert path in ANY_KEY or scope_of(method, path) is not None, f"{path}: who may use it?"
        for kind in (None, "bad", "nonsense", "revoked", "expired"):
            answer = ask(http, method, path, keys.get(kind))
            assert answer.status_code == 401, (method, path, kind)
            assert answer.headers["www-authenticate"] == "Bearer"
        if (scope := scope_of(method, path)) is not None:
            answer = ask(http, method, path, keys[f"without {scope}"])
            assert answer.status_code == 403, (method, path)
        assert ask(http, method, path, keys["right"]).status_code not in (401, 403), (method, path)
        checked += 1
    assert checked > 20


@pytest.mark.parametrize("path", [*BODIES, "/v1/models/{model}"])
def test_what_belongs_to_others_is_as_what_does_not_exist(http, keys, path):
    method = "POST" if path in BODIES else "GET"
    answer = ask(http, method, path, keys["other"])
    if path in ("/v1/embeddings", "/v1/rerank"):
        assert answer.status_code == 200
        return
    assert answer.status_code == 404
    assert "1 version" not in answer.text


def test_administration_of_others_is_as_what_does_not_exist(http, keys):
    for method, path in routes(http):
        if path.startswith("/admin") and "{name}" in path:
            form = (method, path) == ("POST", "/admin/indexes/{name}/documents")  # whoever's it is: no form was sent
            assert ask(http, method, path, keys["other"]).status_code == (415 if form else 404), path


def test_lists_show_what_is_seen(http, keys):
    def listed(key):
        headers = {"Authorization": f"Bearer {keys[key]}"}
        models = [one["id"] for one in http.get("/v1/models", headers=headers).json()["data"]]
        adapters = [one["name"] for one in http.get("/model/info", headers=headers).json()["adapters"]]
        return models, adapters

    assert listed("right") == (["base", "base:support", "all-MiniLM-L6-v2"], ["support"])
    assert listed("other") == (["base", "all-MiniLM-L6-v2"], [])


def test_health_tells_no_more_than_its_status_without_a_key(http, keys):
    assert set(http.get("/health").json()) == {"status"}
    headers = {"Authorization": f"Bearer {keys['right']}"}
    assert http.get("/health", headers=headers).json()["model_loaded"] is True


def test_a_key_in_the_query_or_another_scheme_is_none(http, keys):
    assert ask(http, "POST", f"/predict?key={keys['right']}").status_code == 401
    assert ask(http, "GET", "/v1/models", headers={"Authorization": f"Basic {keys['right']}"}).status_code == 401


def test_keys_are_in_no_answer_and_no_log(http, keys, capfd, caplog):
    caplog.set_level("DEBUG")
    said = [ask(http, method, path, key).text for method, path in routes(http) for key in keys.values()]
    captured = capfd.readouterr()
    everything = "\n".join([*said, captured.out, captured.err, caplog.text])
    for key in keys.values():
        if key.startswith("lp_"):
            assert key not in everything
            assert key.rpartition("_")[2] not in everything
