import asyncio

from serve_apps.routing import replica_agent
from serve_apps.routing.replica_agent import ReplicaAgent
from waiting import until


def test_a_replica_that_cannot_load_a_version_goes_on_with_the_others(versions, repository):
    first, second = (repository.version("adapter", "support", n) for n in (1, 2))
    loaded = []

    async def load(version):
        if version == first:
            raise TypeError("unforeseen")
        loaded.append(version)

    async def story():
        one = ReplicaAgent(None, "adapter", "a", load=load, release=load)
        one._want({first.digest: first, second.digest: second})
        await until(lambda: loaded == [second])
        assert one._refused == {first.digest: "it cannot be loaded (TypeError)"}

    asyncio.run(story())


def test_a_node_that_has_no_room_now_refuses_nothing(versions, repository, monkeypatch):
    monkeypatch.setattr(replica_agent, "PAUSE_S", 0.01)
    first, tries = repository.version("adapter", "support", 1), []

    async def load(version):
        tries.append(version)
        if len(tries) < 3:
            raise OSError(28, "No space left on device")

    async def story():
        one = ReplicaAgent(None, "adapter", "a", load=load, release=load)
        while not one._held:
            one._want({first.digest: first})
            await asyncio.sleep(0.02)
        assert one._refused == {}

    asyncio.run(story())


def test_a_version_that_cannot_be_released_keeps_no_other(versions, repository):
    first, second = (repository.version("adapter", "support", n) for n in (1, 2))
    released, failures = [], []

    async def load(version):
        pass

    async def release(version):
        if version == first and not failures:
            failures.append(version)
            raise TypeError("unforeseen")
        released.append(version)

    async def story():
        one = ReplicaAgent(None, "adapter", "a", load=load, release=release)
        one._want({first.digest: first, second.digest: second})
        await until(lambda: len(one._held) == 2)
        while one._held:
            one._want({})
            await asyncio.sleep(0.02)
        assert failures == [first]
        assert sorted(version.version for version in released) == [1, 2]

    asyncio.run(story())
