"""Two real replicas: chats come back to the one that holds their history."""

import random
import threading
from pathlib import Path

import httpx
import pytest
import yaml

from llama_platform.ports import free_port
from ray_nodes import RayCluster
from served_app import ServedApp

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]
WORDS = "tea lamp why how table green water ask the operator about kites and their strings".split()


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    cluster, folder = RayCluster(head_cpus=4), tmp_path_factory.mktemp("serve")
    config = yaml.safe_load((ROOT / "serve_apps/configs/local.yaml").read_text())
    config["http_options"]["port"] = port = free_port()
    served = ServedApp(
        cluster.run, cluster.get, cluster.dashboard, f"http://127.0.0.1:{port}", config, folder / "serve.yaml"
    )
    served.deploy(
        store={"uri": (folder / "store").as_uri(), "cache": str(folder / "cache")},
        adapter=None, rag_adapter=None, index=None, limits={"request_timeout_s": 60},
        llama={"num_cpus": 0.5, "threads": 1, "min_replicas": 2, "max_replicas": 2},
    )  # fmt: skip
    yield served
    cluster.close()


def play(url: str, seed: int, users: int = 16, turns: int = 5) -> float:
    """Let users chat at the same time, and return the share of their prompts that the prefix cache held."""
    counts = []

    def chat(number: int) -> None:
        choose = random.Random(f"{seed} {number}")
        messages = []
        for _ in range(turns):
            messages.append({"role": "user", "content": " ".join(choose.choices(WORDS, k=40))})
            body = {"model": "base", "messages": messages, "max_tokens": 20, "temperature": 0}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120).json()
            messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"] or "yes"})
            usage = answer["usage"]
            counts.append((usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]))

    threads = [threading.Thread(target=chat, args=(number,)) for number in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == users * turns
    return sum(cached for _, cached in counts) / sum(tokens for tokens, _ in counts)


def test_histories_are_computed_once(app):
    assert len(app.replicas()) == 2
    warm = play(app.url, 1)
    app.deploy(routing="spread")
    spread = play(app.url, 2)
    print(f"cached share of prompts: {warm:.2f} by warmth, {spread:.2f} spread")
    assert warm >= 1.25 * spread
    app.deploy(routing="auto", llama={"num_cpus": 0.5, "threads": 1, "min_replicas": 1, "max_replicas": 1})
    one = play(app.url, 3)
    print(f"{one:.2f} with one replica")
    assert warm >= 0.9 * one
