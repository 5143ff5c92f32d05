"""The router asks once for all who want the same, remembers what is not there, and never waits in others' way."""

import asyncio
import threading
import time

import pytest

from llama_platform.errors import NotFoundError, StorageError, UnavailableError
from serve_apps import worker_pools
from serve_apps.generation.deadline import Deadline
from serve_apps.routing.router import AliasRouter
from serve_apps.routing.table import RoutingTable
from serve_apps.worker_pools import STORE_THREADS, STORE_WAITING, WorkerPools


class Controller:
    def __init__(self):
        self.looks = []

    async def look(self, kind, name):
        self.looks.append(name)
        await asyncio.sleep(0.05)
        return RoutingTable()


def test_what_is_not_there_is_looked_for_once(repository, monkeypatch):
    controller, reads = Controller(), []
    monkeypatch.setattr(type(repository), "version", lambda _, kind, name, n: reads.append(n) or missing(name, n))

    def missing(name, number):
        raise NotFoundError(f"{name} has no version {number}")

    async def story():
        router = AliasRouter(controller, repository, WorkerPools())
        for text in ("nobody", "nobody@7"):
            found = await asyncio.gather(
                *(router.resolve("adapter", text, "x") for _ in range(20)), return_exceptions=True
            )
            assert {type(error) for error in found} == {NotFoundError}
            with pytest.raises(NotFoundError):
                await router.resolve("adapter", text, "x")

    asyncio.run(story())
    assert (controller.looks, reads) == (["nobody"], [7])


def test_a_store_that_never_answers_stops_nothing_else(monkeypatch):
    monkeypatch.setattr(worker_pools, "STORE_TIMEOUT_S", 0.3)
    hangs = threading.Event()

    async def story():
        pools = WorkerPools()
        calls = [
            asyncio.ensure_future(pools.store(hangs.wait, timeout_s=0.5)) for _ in range(STORE_THREADS + STORE_WAITING)
        ]
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        assert await pools.compute(sum, [1, 2]) == 3  # prompts are still tokenized
        assert time.monotonic() - begun < 0.2
        with pytest.raises(UnavailableError, match="answers slowly"):
            await pools.store(hangs.wait)
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in found} == {StorageError}
        hangs.set()

    asyncio.run(story())


def test_a_lookup_ends_with_the_deadline_of_its_request(http, monkeypatch, repository):
    hangs = threading.Event()
    monkeypatch.setattr(type(repository), "version", lambda *_: hangs.wait(5))
    begun = time.monotonic()

    async def story():
        deadline = Deadline.after(0.3)
        with pytest.raises(Exception, match="no answer within"):
            await deadline.within(http.router.resolve("adapter", "support@9", "x"))

    asyncio.run(story())
    assert time.monotonic() - begun < 3
    hangs.set()
