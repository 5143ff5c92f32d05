"""WorkerPools: threads of the ingress, so that what waits for a store is in nobody else's way."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from llama_platform.breaker import Breaker
from llama_platform.errors import StorageError, UnavailableError

STORE_THREADS = 8
STORE_WAITING = 64
"""Calls of the store that wait for a thread at most; more are refused."""
STORE_TIMEOUT_S = 15.0
"""How long a call of the store is waited for; what it does in its thread goes on."""
T = TypeVar("T")


class WorkerPools:
    """Two pools that do not know of each other."""

    def __init__(self) -> None:
        """Start without threads; they come when first needed."""
        self._compute = ThreadPoolExecutor(2, "compute")
        self._store = ThreadPoolExecutor(STORE_THREADS, "store")
        self._calls = 0
        self.breaker = Breaker("store")
        """Opens when the store gives no answers; what it answers, errors too, closes it."""

    async def compute(self, function: Callable[..., T], *args: Any) -> T:
        """Run work on texts, such as tokenizing, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._compute, partial(function, *args))

    async def store(self, function: Callable[..., T], *args: Any, timeout_s: float = STORE_TIMEOUT_S) -> T:
        """Run a call of the store off the event loop.

        Args:
            function: what is called.
            *args: its arguments.
            timeout_s: how long its answer is waited for; more for what moves whole artifacts.

        Raises:
            UnavailableError: too many calls wait already, or the store has not answered for a while.
            StorageError: the store does not answer in time.
        """
        if self._calls >= STORE_THREADS + STORE_WAITING:
            raise UnavailableError("the store answers slowly, and too many requests wait for it; try again shortly")
        with self.breaker.guarding():
            self._calls += 1
            call = asyncio.get_running_loop().run_in_executor(self._store, partial(function, *args))
            call.add_done_callback(self._ended)
            try:
                async with asyncio.timeout(timeout_s):
                    await asyncio.wait((call,))
            except TimeoutError as error:
                raise StorageError(f"the store gave no answer within {timeout_s:g} s") from error
        return call.result()

    def _ended(self, call: "asyncio.Future[Any]") -> None:
        self._calls -= 1
        if not call.cancelled():
            call.exception()  # read, so that a failure nobody waits for any more is no warning
