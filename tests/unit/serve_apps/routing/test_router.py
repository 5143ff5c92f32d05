"""The router asks once for all who want the same, remembers what is not there, and never waits in others' way."""

import asyncio
import threading
import time

import pytest

from llama_platform.errors import NotFoundError
from serve_apps.generation.deadline import Deadline
from serve_apps.routing.router import AliasRouter
from serve_apps.routing.table import RoutingTable
from serve_apps.worker_pools import WorkerPools


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
