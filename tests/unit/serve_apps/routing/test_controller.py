"""The controller and its agents in one event loop, around a real store."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from llama_platform.artifacts.aliases import Aliases
from llama_platform.errors import IntegrityError, NotFoundError, StorageError
from llama_platform.models.adapter_transfer import import_adapter
from serve_apps.config import AppConfig
from serve_apps.routing import controller as module
from serve_apps.routing.controller import AliasController
from serve_apps.routing.replica_agent import ReplicaAgent
from serve_apps.routing.router import AliasRouter
from serve_apps.worker_pools import WorkerPools
from waiting import until


class Handle:
    """A deployment handle to an object in this process."""

    def __init__(self, target):
        self._target = target

    def __getattr__(self, name):
        return SimpleNamespace(remote=getattr(self._target, name))


@pytest.fixture
def config(tmp_path):
    return AppConfig.model_validate(
        {
            "base": {"model": "tiny", "prompt_style": "plain"},
            "store": {"uri": str(tmp_path / "store"), "cache": tmp_path / "cache"},
            "adapter": "support",
            "alias_interval_s": 0.05,
        }
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(module, "LEASE_S", 0.3)
    monkeypatch.setattr(module, "WAIT_S", 0.1)
    monkeypatch.setattr(module, "DISCOVERY_S", 0.1)


def agent(controller, name, held, refuse=()):
    async def load(version):
        await asyncio.sleep(0.02)
        if version.version in refuse:
            raise IntegrityError("does not fit this base")
        held.add(version.version)

    async def release(version):
        held.discard(version.version)

    return ReplicaAgent(Handle(controller), "adapter", name, load=load, release=release)


async def stop(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def run(story):
    """Run a story with a controller, two replicas and an ingress's tables."""

    async def everything(config, repository, refuse=()):
        controller = AliasController(config.model_dump(mode="json"))
        held = {"a": set(), "b": set()}
        agents = [agent(controller, name, held[name], refuse) for name in held]
        tables = AliasRouter(controller, repository, WorkerPools())
        following = asyncio.ensure_future(tables.run("adapter"))
        try:
            for one in agents:
                await one.start()
            await story(controller, tables, held)
        finally:
            loading = [one._loading for one in agents if one._loading]
            await stop(following, *controller._tasks, *(one._following for one in agents), *loading)

    return everything


def state(tables, name="support"):
    live = tables.table("adapter").aliases.get((name, "production"))
    return live and (live.status, [t.version.version for t in live.targets])


def test_a_promotion_reaches_every_replica_before_it_is_live(config, repository, versions):
    async def story(controller, tables, held):
        assert held == {"a": {1}, "b": {1}}  # a replica starts with what it is to hold
        await until(lambda: state(tables) == ("live", [1]) and len(tables.table("adapter").replicas) == 2)
        seen = []
        Aliases(repository, "adapter", "support").promote("production", 2)
        await until(lambda: seen.append((state(tables), {**held})) or state(tables) == ("live", [2]))
        assert held == {"a": {1, 2}, "b": {1, 2}} or held == {"a": {2}, "b": {2}}
        await until(lambda: held == {"a": {2}, "b": {2}})
        assert (await tables.resolve("adapter", "support", "x")).version == 2
        assert (await tables.resolve("adapter", "support@1", "x")).version == 1

    asyncio.run(run(story)(config, repository))


def test_a_damaged_version_never_goes_live(config, repository, versions):
    async def story(controller, tables, held):
        await until(lambda: state(tables) == ("live", [1]))
        Aliases(repository, "adapter", "support").promote("production", 3)
        await until(lambda: state(tables) == ("refused", [1]))
        assert "does not match its sha256" in tables.table("adapter").aliases["support", "production"].reason
        assert 3 not in held["a"] | held["b"]
        Aliases(repository, "adapter", "support").rollback("production")
        await until(lambda: state(tables) == ("live", [1]))

    asyncio.run(run(story)(config, repository))


def test_what_replicas_refuse_never_goes_live(config, repository, versions):
    async def story(controller, tables, held):
        await until(lambda: state(tables) == ("live", [1]))
        Aliases(repository, "adapter", "support").promote("production", 2)
        await until(lambda: state(tables) == ("refused", [1]))
        assert held == {"a": {1}, "b": {1}}

    asyncio.run(run(story)(config, repository, refuse=(2,)))


def test_versions_whose_checks_break_are_in_nobody_elses_way(config, repository, versions, adapter_folder, monkeypatch):
    """Whatever a check raises, also what nobody foresaw."""

    def check(repository, version, *_):
        if version.name.startswith("bad"):
            raise TypeError("unforeseen")

    monkeypatch.setattr(module, "check_version", check)
    for name in ("bad1", "bad2", "bad3", "bad4", "good"):
        import_adapter(repository, name, str(adapter_folder), "plain")
        Aliases(repository, "adapter", name).promote("production", 1)

    async def story(controller, tables, held):
        assert (await tables.resolve("adapter", "good", "x")).name == "good"
        with pytest.raises(IntegrityError, match="cannot be checked"):
            await tables.resolve("adapter", "bad1", "x")

    asyncio.run(run(story)(config, repository))


def test_the_last_table_stays_while_the_store_is_away(config, repository, versions, monkeypatch):
    async def story(controller, tables, held):
        await until(lambda: state(tables) == ("live", [1]))

        def away(*_):
            raise StorageError("away")

        for followed in controller._followed.values():
            monkeypatch.setattr(followed._repository.store, "read_if_changed", away)
        await asyncio.sleep(0.5)
        assert state(tables) == ("live", [1])
        controller.check_health()

    asyncio.run(run(story)(config, repository))


def test_a_name_that_is_first_asked_for_is_read_at_once(config, repository, versions, adapter_folder):
    async def story(controller, tables, held):
        await until(lambda: state(tables) == ("live", [1]))
        import_adapter(repository, "other", str(adapter_folder), "plain")
        Aliases(repository, "adapter", "other").promote("production", 1)
        assert (await tables.resolve("adapter", "other", "x")).name == "other"
        for text in ("nobody", "support@blue", "support@9"):
            with pytest.raises(NotFoundError):
                await tables.resolve("adapter", text, "x")
        Aliases(repository, "adapter", "other").promote("blue", 1)
        await until(lambda: ("other", "blue") in tables.table("adapter").aliases)

    asyncio.run(run(story)(config, repository))


def test_a_store_that_vanishes_takes_no_route_with_it(config, repository, versions, tmp_path):
    async def story(controller, tables, held):
        await until(lambda: state(tables) == ("live", [1]))
        (tmp_path / "store").rename(tmp_path / "away")  # a share that is no longer mounted …
        (tmp_path / "store").mkdir()  # … leaves its mount point
        await asyncio.sleep(0.8)
        assert state(tables) == ("live", [1])
        assert held == {"a": {1}, "b": {1}}
        assert (await tables.resolve("adapter", "support", "x")).version == 1
        (tmp_path / "store").rmdir()
        (tmp_path / "away").rename(tmp_path / "store")
        Aliases(repository, "adapter", "support").promote("production", 2)
        await until(lambda: state(tables) == ("live", [2]))

    asyncio.run(run(story)(config, repository))


def test_a_new_controller_whose_store_is_away_goes_on_with_the_table(config, repository, versions, tmp_path):
    async def story(controller, tables, held):
        await until(lambda: state(tables) == ("live", [1]))
        (tmp_path / "store").rename(tmp_path / "away")
        new = AliasController(config.model_dump(mode="json"))
        try:
            await new.inherit("adapter", tables.table("adapter"))
            await asyncio.sleep(0.8)
            table = await new.table("adapter", -1, [])
            assert [t.version.version for t in table.aliases["support", "production"].targets] == [1]
            assert [version.version for version in await new.pinned("adapter")] == [1]
            (tmp_path / "away").rename(tmp_path / "store")
            Aliases(repository, "adapter", "support").promote("production", 2)
            for _ in range(250):
                table = await new.table("adapter", -1, [])
                if [t.version.version for t in table.aliases["support", "production"].targets] == [2]:
                    break
                await asyncio.sleep(0.02)
            else:
                raise AssertionError("the store came back, and nobody looked")
        finally:
            await stop(*new._tasks)

    asyncio.run(run(story)(config, repository))


def test_many_first_requests_share_the_check_of_a_version(config, repository, adapter_folder, monkeypatch):
    names, checked = [f"team-{n}" for n in range(4)], []
    for name in names:
        import_adapter(repository, name, str(adapter_folder), prompt_style="plain")
    check = module.check_version

    def counted(repository, version, *rest):
        checked.append(version.name)
        time.sleep(0.05)
        return check(repository, version, *rest)

    async def story(controller, tables, held):
        for name in names:
            Aliases(repository, "adapter", name).promote("production", 1)
        monkeypatch.setattr(module, "check_version", counted)
        await asyncio.gather(*(controller.look("adapter", name) for name in names for _ in range(8)))
        assert sorted(checked) == names

    asyncio.run(run(story)(config, repository))


def test_an_older_read_never_undoes_a_newer_one(config, repository, versions, monkeypatch):
    followed = module.Followed("adapter", repository, config, "f" * 64, ["support"])
    read, slow = Aliases.read_if_changed, [0.2, 0]

    def delayed(self, etag):
        found = read(self, etag)
        time.sleep(slow.pop(0) if slow else 0)
        return found

    async def story():
        monkeypatch.setattr(Aliases, "read_if_changed", delayed)
        first = asyncio.ensure_future(followed.read(["support"]))
        await asyncio.sleep(0.05)
        Aliases(repository, "adapter", "support").promote("production", 2)
        await asyncio.gather(first, followed.read(["support"]))
        followed.publish()
        assert [t.version for t in followed.live.table.aliases["support", "production"].wanted] == [2]

    asyncio.run(story())


def test_before_a_controller_knows_what_there_is_replicas_keep_what_they_hold(config, repository, versions):
    async def story():
        controller = AliasController(config.model_dump(mode="json"))
        try:
            assert await controller.follow("adapter", "a", 7, {"x": None}, None) == (7, None)
        finally:
            await stop(*controller._tasks)

    asyncio.run(story())


def test_a_store_that_cannot_be_read_is_said_once_and_told_to_the_ingress(config, repository, versions, monkeypatch):
    async def story(controller, tables, held):
        await until(lambda: state(tables) == ("live", [1]))
        assert tables.table("adapter").store_problem is None

        def away(self, etag):
            raise StorageError("the keys have expired")

        with monkeypatch.context() as patch:
            patch.setattr(Aliases, "read_if_changed", away)
            await until(lambda: tables.table("adapter").store_problem == "the keys have expired")
            await asyncio.sleep(0.3)
        await until(lambda: tables.table("adapter").store_problem is None)
        assert said == ["aliases cannot be read; the routes stay", "aliases can be read again"]

    said = []
    for level in ("error", "info"):
        monkeypatch.setattr(
            module.log, level, lambda text, extra: said.append(text) if extra["kind"] == "adapter" else None
        )
    asyncio.run(run(story)(config, repository))
