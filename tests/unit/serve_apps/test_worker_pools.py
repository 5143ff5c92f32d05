import asyncio
import threading
import time

import pytest

from llama_platform.breaker import OpenBreakerError
from llama_platform.errors import StorageError, UnavailableError
from serve_apps import worker_pools
from serve_apps.worker_pools import STORE_THREADS, STORE_WAITING, WorkerPools


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


def test_a_store_that_gives_no_answers_is_not_asked_for_a_while():
    pools = WorkerPools()

    async def go():
        for _ in range(5):
            with pytest.raises(StorageError, match="no answer within"):
                await pools.store(time.sleep, 0.2, timeout_s=0.01)
        with pytest.raises(OpenBreakerError, match="the store keeps failing"):
            await pools.store(lambda: 1)

    asyncio.run(go())


def test_errors_of_a_store_that_answers_open_nothing():
    pools = WorkerPools()

    def refused():
        raise StorageError("not allowed")

    async def go():
        for _ in range(9):
            with pytest.raises(StorageError, match="not allowed"):
                await pools.store(refused)
        assert pools.breaker.state == "closed"

    asyncio.run(go())
