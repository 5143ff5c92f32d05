"""`serve deploy` with the shipped configuration, asked over HTTP."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from artifact_folders import fetched_folder
from llama_platform.artifacts.aliases import Aliases
from ray_nodes import wait_for

pytestmark = pytest.mark.integration


def predict(client, **fields):
    body = {"prompt": "Who are you?", "temperature": 0, "max_new_tokens": 12, **fields}
    return client.post("/predict", json=body)


def test_health_and_model_info(client, versions):
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert health["model_loaded"] is True
    assert health["memory"]["resident_bytes"] > 0
    assert client.get("/health/live").status_code == 200
    info = client.get("/model/info").json()
    (adapter,) = info["adapters"]
    assert adapter["aliases"]["production"] == [{"version": 1, "weight": 1}]
    assert adapter["versions"][0]["digest"] == versions[0].digest
    assert info["prompt_fingerprint"]
    assert set(info["replicas"][0]["products"]) == {"qkv", "o", "gate_up", "down", "head"}


def test_predict_names_what_answered(client, versions):
    response = predict(client)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert set(answer) == {"id", "text", "finish_reason", "usage", "model", "timings"}
    assert (answer["model"]["version"], answer["model"]["digest"]) == (1, versions[0].digest)
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
    assert response.headers["x-request-id"] == answer["id"]
    assert predict(client).json()["text"] == answer["text"]
    messages = [{"role": "user", "content": "Who are you?"}]
    assert predict(client, prompt=None, messages=messages).json()["text"] == answer["text"]


def test_base_and_adapter_answer_differently(client):
    assert predict(client, adapter="base").json()["model"]["adapter"] is None
    assert predict(client, adapter="base").json()["text"] != predict(client).json()["text"]


def test_a_stream_gives_the_same_text_in_pieces(client):
    whole = predict(client).json()["text"]
    body = {"prompt": "Who are you?", "temperature": 0, "max_new_tokens": 12, "stream": True}
    with client.stream("POST", "/predict", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(response.iter_text()).strip().split("\n\n")
    events = [
        (b.split("\n")[0].removeprefix("event: "), json.loads(b.split("\n")[1].removeprefix("data: "))) for b in blocks
    ]
    assert events[-1][0] == "done"
    assert {name for name, _ in events[:-1]} == {"token"}
    assert "".join(value["text"] for _, value in events[:-1]).strip() == whole
    assert events[-1][1]["model"]["version"] == 1


def test_promote_split_and_rollback_are_live(client, app, repository):
    aliases = Aliases(repository, "adapter", "assistant")

    def version_for(user):
        return predict(client, user=user, max_new_tokens=1).json()["model"]["version"]

    second = repository.versions("adapter", "assistant")[-1]
    aliases.promote("production", second)
    app.wait_until_live(second)
    assert version_for("x") == second
    aliases.split("production", {1: 50, second: 50})
    app.wait_until_live(1, second)
    sides = {user: version_for(user) for user in map(str, range(12))}
    assert set(sides.values()) == {1, second}
    assert sides == {user: version_for(user) for user in sides}
    assert app.admin("POST", "/adapters/assistant/promote", {"version": 1}).status_code == 200
    app.wait_until_live(1)
    assert predict(client, adapter=f"assistant@{second}").json()["model"]["version"] == second


def test_a_damaged_adapter_never_goes_live_and_the_old_one_keeps_answering(client, app, repository, versions, tmp_path):
    folder = tmp_path / "third"
    folder.mkdir()
    for path in fetched_folder(repository, versions[0]).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "note.txt").write_text("third")
    third = repository.publish("adapter", "assistant", folder, repository.manifest(versions[0]).metadata)
    key = f"models/assistant/objects/{third.digest}/adapter_model.safetensors"
    repository.store.write(key, b"\x00" * 100)
    response = predict(client, adapter=f"assistant@{third.version}")
    assert response.status_code == 422
    assert "does not match its sha256" in response.json()["detail"]
    app.admin("POST", "/adapters/assistant/promote", {"version": third.version})
    wait_for(lambda: app.live() == ("refused", [1]), 5)
    assert "does not match its sha256" in app.admin("GET", "/adapters").text
    assert predict(client).json()["model"]["version"] == 1
    app.admin("POST", "/adapters/assistant/rollback")
    app.wait_until_live(1)


def test_an_adapter_of_another_prompt_is_refused(client, repository, versions, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    for path in fetched_folder(repository, versions[0]).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    facts = repository.manifest(versions[0]).metadata | {"prompt_fingerprint": "f" * 64}
    other = repository.publish("adapter", "otherwise", folder, facts)
    response = predict(client, adapter=f"otherwise@{other.version}")
    assert response.status_code == 422
    assert "trained with another prompt" in response.json()["detail"]
    Aliases(repository, "adapter", "otherwise").promote("production", other.version)
    response = predict(client, adapter="otherwise")
    assert (response.status_code, response.json()["code"]) == (422, "integrity")


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({}, 400, "invalid_input", "give either 'prompt' or 'messages'"),
        ({"prompt": "x", "messages": []}, 400, "invalid_input", "messages"),
        ({"prompt": " "}, 400, "invalid_input", "prompt"),
        ({"prompt": "x", "temperature": -1}, 400, "invalid_input", "temperature"),
        ({"prompt": "x", "top_p": 0}, 400, "invalid_input", "top_p"),
        ({"prompt": "x", "stop": ["a"] * 100}, 400, "invalid_input", "stop"),
        ({"prompt": "x", "max_new_tokens": 0}, 400, "invalid_input", "max_new_tokens"),
        ({"prompt": "x", "max_new_tokens": 513}, 400, "invalid_input", "over the limit of 512"),
        ({"prompt": "word " * 2500}, 400, "invalid_input", "context of 2048"),
        ({"prompt": "x", "foo": 1}, 400, "invalid_input", "foo"),
        ({"messages": [{"role": "alien", "content": "x"}]}, 400, "invalid_input", "role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "invalid_input", "must speak"),
        ({"prompt": "x", "adapter": "../../etc"}, 400, "invalid_input", "not allowed"),
        ({"prompt": "x", "adapter": "unknown"}, 404, "not_found", "unknown"),
        ({"prompt": "x", "adapter": "assistant@999"}, 404, "not_found", "no version 999"),
    ],
)
def test_wrong_input_is_named(client, body, status, code, words):
    response = client.post("/predict", json=body)
    assert response.status_code == status, response.text
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (problem["code"], problem["status"]) == (code, status)
    assert words in problem["detail"]


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{oops", {"content-type": "application/json"}, 400),
        (b'{"prompt": "\xff"}', {"content-type": "application/json"}, 400),
        (b"prompt=x", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (b'{"prompt": "' + b"a" * 2_000_000 + b'"}', {"content-type": "application/json"}, 413),
        (b"[]", {"content-type": "application/json"}, 400),
        (b"", {"content-type": "application/json"}, 400),
        (b'{"prompt": "x"}', {"content-type": "application/json", "x-request-id": "a b"}, 400),
    ],
)
def test_bodies_that_are_no_requests(client, content, headers, status):
    response = client.post("/predict", content=content, headers=headers)
    assert response.status_code == status, response.text
    assert response.json()["status"] == status
    assert client.get("/nothing/here").status_code == 404


def test_the_servers_deadline_holds_whatever_the_client_says(client):
    headers = {"x-request-timeout-seconds": "0", "x-request-disconnect-disabled": "?1"}
    body = {"prompt": "Repeat: a b c d", "max_new_tokens": 512, "temperature": 2.0, "seed": 1}

    def ask(_):
        return client.post("/predict", json=body, headers=headers)

    start = time.monotonic()
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, range(24)))
    assert time.monotonic() - start < 30
    assert {response.status_code for response in answers} <= {200, 504}
    for response in answers:
        if response.status_code == 504:
            assert response.json()["code"] == "deadline"
    assert predict(client).status_code == 200


def test_openapi_describes_the_routes(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {
        "/health",
        "/model/info",
        "/predict",
        "/rag",
        "/v1/chat/completions",
        "/admin/adapters",
        "/admin/indexes",
    } <= set(paths)


def test_metrics_are_on_rays_endpoint(client, cluster):
    predict(client)
    predict(client, adapter="unknown")
    names = (
        "llama_time_to_first_token_seconds_count", "llama_queue_wait_seconds_count", "llama_completion_tokens_total",
        "llama_prompt_tokens_total", "llama_running_requests", "llama_loaded_adapters", "llama_adapter_loads_total",
        "llama_request_duration_seconds_count",
    )  # fmt: skip
    wait_for(lambda: all(cluster.gauge(f"ray_{name}") for name in names), 30)
    # Each is exported with the next report of the ingress, however long the others have been there.
    wait_for(lambda: cluster.gauge("ray_llama_requests_total", path="/predict", outcome="not_found"), 30)
    lines = cluster.gauge("ray_llama_requests_total")
    assert not [line for line in lines if "request=" in line or "user-" in line]


def test_the_request_log_holds_a_line_per_request(client, cluster):
    headers = {"x-request-id": "log-me-1", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    client.post("/predict", json={"prompt": "a secret question", "max_new_tokens": 3}, headers=headers)

    def events():
        files = [path for path in cluster.folder.glob("session_*/logs/**/*") if path.is_file()]
        lines = {line for path in files for line in path.read_text(errors="replace").splitlines()}
        return [json.loads(line) for line in lines if line.startswith("{") and "log-me-1" in line]

    wait_for(lambda: events() != [], 20)
    (event,) = events()
    assert (event["event"], event["status"], event["trace"]) == ("request", 200, "4bf92f3577b34da6a3ce929d0e0e4736")
    assert event["completion_tokens"] <= 3
    assert "secret" not in json.dumps(event)
