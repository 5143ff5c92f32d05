"""AdapterHolder over the real pool's rules: a request gets its adapter, or waits for room; it never loses it."""

import asyncio
import random
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import DeadlineError, IntegrityError
from llama_platform.inference import adapter_holder
from llama_platform.inference.adapter_holder import AdapterHolder
from llama_platform.inference.torch_engine import adapter_pool
from llama_platform.inference.torch_engine.adapter_pool import AdapterPool


class Engine:
    """A pool, and nothing that computes."""

    keeps_folders = False

    def __init__(self, room):
        model = SimpleNamespace(architecture=None, pack_adapter=lambda _: SimpleNamespace(size_bytes=1))
        self.pool = AdapterPool(model, room, 64)
        self.release_adapter = self.pool.release

    def hold_adapter(self, digest):
        return self.pool.acquire(digest) is not None

    def stats(self):
        return SimpleNamespace(adapters=self.pool.digests())

    async def load_adapter(self, digest, folder, pinned=False):
        await asyncio.to_thread(self.pool.load, digest, folder, pinned)


@pytest.fixture
def make(monkeypatch):
    monkeypatch.setattr(adapter_pool, "read_adapter", lambda *_: None)

    @contextmanager
    def fetched(_):
        yield Path()

    def make(room):
        engine = Engine(room)
        return engine, AdapterHolder(engine, fetched)

    return make


def version(name):
    return ArtifactVersion("adapter", name, 1, name, "")


def test_no_request_loses_its_adapter_under_churn(make):
    engine, holder = make(3)
    chance = random.Random(1)

    async def ask(name):
        async with holder.held(version(name), time.time() + 30):
            for _ in range(3):
                await asyncio.sleep(chance.random() / 1000)
                assert engine.pool.acquire(name) is not None  # what a generation would find
                engine.pool.release(name)

    async def story():
        for _ in range(20):
            await asyncio.gather(*(ask(chance.choice("abcdefgh")) for _ in range(24)))

    asyncio.run(story())
    assert len(engine.pool.digests()) == 3


def test_room_is_waited_for_until_the_deadline(make):
    _, holder = make(1)

    async def story():
        async with holder.held(version("a")):
            with pytest.raises(DeadlineError, match="other adapters"):
                async with holder.held(version("b"), time.time() + 0.05):
                    pass
            waiting = asyncio.ensure_future(holder.held(version("b"), time.time() + 20).__aenter__())
            await asyncio.sleep(0.05)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 20)

    asyncio.run(story())


def test_what_could_never_fit_is_refused_at_once(make):
    _, holder = make(0)

    async def story():
        async with holder.held(version("a")):
            pass

    with pytest.raises(IntegrityError, match=r"takes .* MiB .*raise engine\.adapter_memory_mib"):
        asyncio.run(story())


def test_a_place_that_a_cancelled_request_still_has_for_a_step_is_waited_for(make):
    engine, holder = make(1)

    async def story():
        await holder.load(version("a"))
        engine.pool.acquire("a")  # by the engine's thread, which has not seen yet that the request was cancelled
        asyncio.get_running_loop().call_later(0.08, engine.pool.release, "a")
        async with holder.held(version("b"), time.time() + 20):
            assert engine.pool.digests() == ("b",)

    asyncio.run(story())


def test_folders_stay_while_an_engine_may_read_them_again(make, monkeypatch):
    engine, holder = make(100)
    engine.keeps_folders = True
    monkeypatch.setattr(adapter_holder, "MAX_KEPT_FOLDERS", 2)
    inside, unloaded = set(), []

    @contextmanager
    def fetched(version):
        inside.add(version.digest)
        yield Path()
        inside.discard(version.digest)

    async def unload(digest):
        unloaded.append(digest)
        engine.pool.unload(digest)

    engine.unload_adapter, engine.unpin_adapter = unload, engine.pool.unpin
    holder = AdapterHolder(engine, fetched)

    async def story():
        await holder.load(version("a"), pinned=True)
        for name in "bcd":
            async with holder.held(version(name)):
                assert name in inside
        assert (inside, unloaded) == ({"a", "d"}, ["b", "c"])
        holder.unpin(version("a"))
        await holder.load(version("e"))
        assert (inside, unloaded) == ({"d", "e"}, ["b", "c", "a"])

    asyncio.run(story())


def test_requests_for_loaded_adapters_do_not_keep_another_out_for_ever(make, monkeypatch):
    monkeypatch.setattr(adapter_holder, "TURN_S", 0.05)
    _, holder = make(2)

    async def story():
        async def busy(name):
            async with holder.held(version(name), time.time() + 30):
                await asyncio.sleep(0.02)

        async def always(name):
            running = []
            for _ in range(100):  # each begins before the one before it has ended
                running.append(asyncio.ensure_future(busy(name)))
                await asyncio.sleep(0.01)
            await asyncio.gather(*running)

        streams = [asyncio.ensure_future(always(name)) for name in "ab"]
        await asyncio.sleep(0.1)
        async with holder.held(version("c"), time.time() + 30):
            assert not any(stream.done() for stream in streams)
        await asyncio.gather(*streams)

    asyncio.run(story())
