import asyncio

import pytest

from llama_platform.artifacts.aliases import Aliases
from llama_platform.models.adapter_transfer import import_adapter
from serve_apps.routing import replica_agent
from serve_apps.routing.replica_agent import ReplicaAgent


@pytest.fixture
def versions(repository, adapter_folder, tmp_path):
    """Three versions; the third is damaged."""
    for n in (1, 2, 3):
        folder = tmp_path / f"adapter{n}"
        folder.mkdir()
        for path in adapter_folder.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "note.txt").write_text(str(n))
        import_adapter(repository, "support", str(folder), "plain")
    third = repository.version("adapter", "support", 3)
    repository.store.write(f"models/support/objects/{third.digest}/adapter_model.safetensors", b"\x00" * 100)
    Aliases(repository, "adapter", "support").promote("production", 1)


async def until(condition, seconds=5.0):
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("waited in vain")


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
