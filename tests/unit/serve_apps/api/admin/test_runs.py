import json

import pytest

from llama_platform.access.registry import KeyRegistry

STEPS = [
    {"step": n, "steps": 2, "loss": 3.0 - n, "learning_rate": 1e-3, "tokens_per_s": 10.0, "eta_s": 1.0} for n in (1, 2)
]


@pytest.fixture
def runs(repository):
    for run, adapter in (("20260101-a", "support"), ("20260102-b", "sales")):
        repository.store.write(f"runs/{run}/status.json", json.dumps({"status": "finished", "step": 2}).encode())
        repository.store.write(f"runs/{run}/metrics.jsonl", "".join(json.dumps(step) + "\n" for step in STEPS).encode())
        repository.store.write(f"runs/{run}/config.yaml", f"adapter: {{name: {adapter}}}\n".encode())


def test_runs_are_listed_in_pages_and_shown(admin, runs):
    found = admin("GET", "/runs").json()
    assert [run["run"] for run in found["runs"]] == ["20260102-b", "20260101-a"]
    assert admin("GET", "/runs?start=1&limit=1").json() == {"total": 2, "runs": found["runs"][1:]}
    shown = admin("GET", "/runs/20260101-a").json()
    assert (shown["status"], shown["steps"], shown["settings"]["adapter"]) == ("finished", STEPS, {"name": "support"})
    assert admin("GET", "/runs/nothing").status_code == 404
    assert admin("GET", "/runs/..%2F..").status_code in (400, 404)


def test_a_key_sees_the_runs_of_its_adapters(make_http, repository, runs):
    _, text = KeyRegistry(repository.store).create("k", "acme", ("admin:read",), ("supp*",), ())
    http = make_http(auth={"mode": "keys"})
    bearer = {"Authorization": f"Bearer {text}"}
    found = http.get("/admin/runs", headers=bearer).json()
    assert (found["total"], [run["run"] for run in found["runs"]]) == (1, ["20260101-a"])
    statuses = [http.get(f"/admin/runs/{run}", headers=bearer).status_code for run in ("20260101-a", "20260102-b")]
    assert statuses == [200, 404]
