import asyncio

import pytest

from artifact_folders import import_versions
from llama_platform.artifacts.aliases import Aliases
from llama_platform.canary.conduct import Conductor
from llama_platform.canary.counts import Observation, SplitBook, SplitKey
from llama_platform.canary.plan import CanaryPlan
from llama_platform.errors import StorageError
from serve_apps.routing import canary_follower
from serve_apps.routing.canary_follower import CanaryFollower
from serve_apps.routing.table import Route, RoutingTable


class Routes:
    def __init__(self):
        self.table, self.canaries = RoutingTable(), []

    def set_canaries(self, running):
        self.canaries.append(list(running))


@pytest.fixture
def canary(repository, adapter_folder, tmp_path):
    import_versions(repository, adapter_folder, tmp_path, 2)
    Aliases(repository, "adapter", "support").promote("production", 1)
    conductor = Conductor(repository, "support", "production")
    conductor.start(2, CanaryPlan(shares=(10,), requests=10, guards=("failed",)))
    return conductor


def follow(repository, routes, seconds=0.5):
    async def story():
        task = asyncio.ensure_future(CanaryFollower(repository, routes).run())
        await asyncio.sleep(seconds)
        assert not task.done()
        task.cancel()

    asyncio.run(story())


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(canary_follower, "INTERVAL_S", 0.02)


def test_what_was_counted_is_followed(repository, canary):
    routes = Routes()
    follow(repository, routes)
    assert canary.read().status == "running"
    assert routes.canaries[0] == [("support", "production")]
    book = SplitBook(repository.store, "process")
    for _ in range(10):
        book.observe(SplitKey("support", "production", canary.read().generation), 2, Observation())
    book.write()
    follow(repository, Routes())
    assert canary.read().status == "promoted"


def test_what_replicas_refuse_is_rolled_back(repository, canary):
    routes = Routes()
    since = canary.read().generation
    of_before = Route("support", "production", (), "refused", (), "an older reason", since, since - 1)
    routes.table = RoutingTable(1, {("support", "production"): of_before})
    follow(repository, routes)
    assert canary.read().status == "running"  # the route does not know of the canary yet
    of_present = Route("support", "production", (), "refused", (), "version 1: damaged", since, since)
    routes.table = RoutingTable(2, {("support", "production"): of_present})
    follow(repository, routes)
    assert canary.read().status == "running"  # the candidate cannot help it
    refused = Route("support", "production", (), "refused", (), "version 2: damaged", since, since)
    routes.table = RoutingTable(2, {("support", "production"): refused})
    follow(repository, routes)
    assert (canary.read().status, canary.read().reason) == ("rolled_back", "it must not answer: version 2: damaged")


def test_a_store_that_is_away_is_asked_again(repository, canary, monkeypatch):
    with monkeypatch.context() as patch:

        def away(*_):
            raise StorageError("away")

        patch.setattr(type(repository.store), "list_folders", away)
        follow(repository, Routes(), 0.2)
    repository.store.write("canaries/other/production/canary.json", b"{")  # a damaged one keeps no other waiting
    book = SplitBook(repository.store, "process")
    for _ in range(10):
        book.observe(SplitKey("support", "production", canary.read().generation), 2, Observation())
    book.write()
    follow(repository, Routes())
    assert canary.read().status == "promoted"
