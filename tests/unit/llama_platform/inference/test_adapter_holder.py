"""AdapterHolder over the real pool's rules: a request gets its adapter, or waits for room; it never loses it."""

import asyncio
import random
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import DeadlineError, UnavailableError
from llama_platform.inference.adapter_holder import AdapterHolder
from llama_platform.inference.torch_engine import adapter_pool
from llama_platform.inference.torch_engine.adapter_pool import AdapterPool


class Engine:
    """A pool, and nothing that computes."""

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

    with pytest.raises(UnavailableError, match="needs"):
        asyncio.run(story())
