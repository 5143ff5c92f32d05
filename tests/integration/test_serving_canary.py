"""Canaries on a real Serve: requests over HTTP decide, and the application itself promotes or rolls back."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file, save_file

from artifact_folders import fetched_folder
from llama_platform.artifacts.aliases import Aliases
from llama_platform.models.adapter_folder import WEIGHTS_FILE
from ray_nodes import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]
REQUESTS = 25
"""Of the candidate in a step."""


@pytest.fixture
def publish(repository, versions, tmp_path):
    """Publish a copy of the present adapter whose weights are disturbed by so much."""

    def publish(disturbed):
        folder = tmp_path / f"by-{disturbed}"
        folder.mkdir()
        for path in fetched_folder(repository, versions[0]).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        generator = torch.Generator().manual_seed(1)
        tensors = load_file(folder / WEIGHTS_FILE)
        noisy = {n: w + disturbed * torch.randn(w.shape, generator=generator) for n, w in tensors.items()}
        save_file(noisy, folder / WEIGHTS_FILE)
        return repository.publish("adapter", "assistant", folder, repository.manifest(versions[0]).metadata).version

    yield publish
    Aliases(repository, "adapter", "assistant").promote("production", 1)


def ask(client, number):
    body = {"prompt": f"Tell me about number {number}.", "max_new_tokens": 100, "user": f"user-{number}"}
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    return response.json()["model"]["version"]


def ask_until_there_is_a_verdict(app, client, most=3000):
    """Send requests of ever other users; return the canary and how many requests the candidate has answered."""
    answered = []
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, most, 40):
            answered += pool.map(lambda number: ask(client, number), range(start, start + 40))
            canary = app.admin("GET", "/adapters/assistant/canary").json()
            if canary["status"] != "running":
                return canary, answered.count(canary["candidate"])
    raise AssertionError(canary)


def test_a_version_as_good_as_the_present_one_is_promoted(app, client, publish):
    same = publish(0.0001)
    plan = {"version": same, "shares": [20, 50], "requests": REQUESTS}
    assert app.admin("POST", "/adapters/assistant/canary", plan).json()["status"] == "running"
    app.wait_until_live(1, same)
    canary, answered = ask_until_there_is_a_verdict(app, client)
    assert canary["status"] == "promoted", canary["reason"]
    assert answered >= 2 * REQUESTS
    app.wait_until_live(same)
    assert ask(client, 0) == same


def test_a_poisoned_version_is_rolled_back_with_the_figures(app, client, publish):
    poisoned = publish(3.0)
    plan = {"version": poisoned, "shares": [30], "requests": 2000}
    app.admin("POST", "/adapters/assistant/canary", plan)
    app.wait_until_live(1, poisoned)
    canary, answered = ask_until_there_is_a_verdict(app, client)
    assert canary["status"] == "rolled_back"
    assert canary["reason"].startswith("answers that run into the bound on their length: ")
    assert answered < 500
    app.wait_until_live(1)
    assert {ask(client, number) for number in range(20)} == {1}


def test_a_version_that_must_not_answer_is_rolled_back_at_once(app, client, publish, repository):
    damaged = publish(0.0002)
    digest = repository.version("adapter", "assistant", damaged).digest
    repository.store.write(f"models/assistant/objects/{digest}/{WEIGHTS_FILE}", b"\x00" * 100)
    app.admin("POST", "/adapters/assistant/canary", {"version": damaged})
    wait_for(lambda: app.admin("GET", "/adapters/assistant/canary").json()["status"] == "rolled_back", 30)
    canary = app.admin("GET", "/adapters/assistant/canary").json()
    assert "it must not answer: " in canary["reason"]
    assert "does not match its sha256" in canary["reason"]
    app.wait_until_live(1)
    assert ask(client, 1) == 1


def test_a_version_whose_numbers_overflow_is_rolled_back(app, client, publish):
    overflowing = publish(1e30)
    app.admin("POST", "/adapters/assistant/canary", {"version": overflowing, "shares": [50]})
    app.wait_until_live(1, overflowing)
    failed = 0
    for number in range(60):
        body = {"prompt": f"Tell me about number {number}.", "max_new_tokens": 4, "user": f"user-{number}"}
        failed += client.post("/predict", json=body).status_code != 200
    wait_for(lambda: app.admin("GET", "/adapters/assistant/canary").json()["status"] == "rolled_back", 30)
    assert 1 <= failed < 30
    app.wait_until_live(1)
    assert ask(client, 1) == 1
