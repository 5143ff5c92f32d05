"""Changes while streams are on their way."""

import asyncio
import time

import httpx
import pytest

from llama_platform.artifacts.aliases import Aliases, Target, choose
from ray_nodes import wait_for
from served_app import Streams, cut_streams

pytestmark = pytest.mark.integration
BODY = {"prompt": "Who are you?", "temperature": 0, "max_new_tokens": 300}


@pytest.fixture
def texts(client, versions):
    """What each version answers, alone."""

    def text(version):
        response = client.post("/predict", json=BODY | {"adapter": f"assistant@{version}"})
        return response.json()["text"]

    found = {version.version: text(version.version) for version in versions}
    assert len(set(found.values())) == 2
    return found


def test_promote_rollback_and_split_under_streams(app, client, repository, versions, texts):
    first, second = (version.version for version in versions)
    aliases = Aliases(repository, "adapter", "assistant")
    aliases.promote("production", first)
    app.wait_until_live(first)
    with Streams(app.url, 8, BODY) as streams:
        time.sleep(1)
        aliases.promote("production", second)
        app.wait_until_live(second)
        time.sleep(1)
        aliases.rollback("production")
        app.wait_until_live(first)
        time.sleep(1)
        aliases.split("production", {first: 90, second: 10})
        app.wait_until_live(first, second)
        time.sleep(2)
    aliases.promote("production", first)
    app.wait_until_live(first)
    assert len(streams.finished) > 20
    for seen in streams.finished:
        assert (seen.status, seen.error, seen.broken) == (200, None, None)
        # Whole answers of one version: nothing was mixed.
        assert seen.text.strip() == texts[seen.done["model"]["version"]]
    assert {seen.done["model"]["version"] for seen in streams.finished} == {first, second}


def test_a_split_is_sticky_over_http(app, client, repository, versions):
    first, second = (version.version for version in versions)
    Aliases(repository, "adapter", "assistant").split("canary", {first: 90, second: 10})
    wait_for(lambda: app.live("canary") == ("live", [first, second]), 5)
    targets = (Target(version=first, weight=90), Target(version=second, weight=10))
    for number in range(60):
        user = f"user-{number}"
        body = BODY | {"adapter": "assistant@canary", "max_new_tokens": 1, "user": user}
        answered = client.post("/predict", json=body).json()["model"]["version"]
        assert answered == choose("assistant", "canary", targets, user)


def test_300_streams_cut_at_random_leave_no_slot(app):
    body = {"prompt": "Tell me a story.", "temperature": 1.0, "max_new_tokens": 500}
    asyncio.run(cut_streams(app.url, 300, body))
    start = time.monotonic()

    def idle():
        health = httpx.get(f"{app.url}/health", timeout=5).json()
        return (health["running"], health["waiting"]) == (0, 0)

    wait_for(idle, 2 + 1.2)  # what health tells is up to a second old
    assert time.monotonic() - start < 4
