"""The audit trail of a deployed application: nothing that was answered is lost, and answers come again as they were."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from llama_platform.artifacts.aliases import Aliases
from llama_platform.audit.trail import find_request, read_trail, verify_trail
from ray_nodes import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
QUESTIONS = ("Who are you?", "What is tea?", "How is the operator installed?", "Tell me about Ray.", "And now?")


def ask(client, number):
    """Ask greedily at one of the routes, whole or as a stream; return the request's id."""
    question = f"{QUESTIONS[number % 5]} ({number})"
    body = {"temperature": 0, "stream": number % 4 == 3}
    path, more = [
        ("/predict", {"prompt": question, "max_new_tokens": 12}),
        ("/predict", {"prompt": question, "max_new_tokens": 12, "adapter": "base"}),
        ("/rag", {"question": question, "documents": [{"text": f"Lamp {number} stands on the table."}],
                  "max_new_tokens": 12}),
        ("/v1/chat/completions", {"model": "base:assistant", "messages": [{"role": "user", "content": question}],
                                  "max_tokens": 12, "n": 1 + number % 2}),
        ("/v1/completions", {"model": "base:assistant", "prompt": question, "max_tokens": 12}),
    ][number % 5]  # fmt: skip
    response = client.post(path, json={**body, **more})
    assert response.status_code == 200, response.text
    return response.headers["x-request-id"]


def ingress_processes():
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any("ServeReplica:llama:ingress" in part for part in process.info["cmdline"] or ()):
            found.append(process.pid)
    return found


def kinds(repository, request):
    return [record["kind"] for record in find_request(repository.store, request)]


def test_answers_are_the_same_after_a_rollback_and_a_killed_ingress(client, app, cluster, repository, versions, store):
    aliases = Aliases(repository, "adapter", "assistant")
    with ThreadPoolExecutor(16) as pool:
        asked = list(pool.map(lambda number: ask(client, number), range(50)))
        aliases.promote("production", versions[1].version)
        wait_for(lambda: client.get("/model/info").json()["adapters"][0]["generation"] == aliases.read().generation, 20)
        asked += pool.map(lambda number: ask(client, number), range(50, 100))
    (killed,) = ingress_processes()
    os.kill(killed, signal.SIGKILL)
    aliases.rollback("production")

    def answers():
        try:
            return client.get("/health").json()["status"] == "ok" and ingress_processes() not in ([], [killed])
        except (httpx.HTTPError, ValueError):
            return False

    wait_for(answers, 60)
    wait_for(lambda: {record.get("request") for record in read_trail(repository.store)} >= set(asked), 40)
    assert len(set(asked)) == 100
    assert {tuple(kinds(repository, request)) for request in asked} == {("request",), ("begin", "end")}
    assert [problem for chain in verify_trail(repository.store) for problem in chain.problems] == []
    recovered = [record["writer"] for record in read_trail(repository.store) if record["kind"] == "recovered"]
    assert recovered == [find_request(repository.store, asked[0])[0]["writer"]]
    used = {
        record["version"]
        for request in asked
        for record in find_request(repository.store, request)
        if record.get("adapter") == "assistant"
    }
    assert used == {version.version for version in versions}

    begun = time.monotonic()
    verified = cluster.run("llama-platform", "audit", "verify", "--store", store[0])
    assert (verified.returncode, "nothing was edited" in verified.stdout) == (0, True), verified.stderr
    done = cluster.run("llama-platform", "replay", *asked, "--store", store[0])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert done.stdout.count("  the same") == 100
    assert time.monotonic() - begun < 240
    shown = cluster.run("llama-platform", "audit", "show", asked[0], "--store", store[0])
    assert json.loads(shown.stdout)["generations"][0]["answer"]
