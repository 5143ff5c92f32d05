"""Deadline: by when a request must be answered, and the error of what is not."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from llama_platform.errors import DeadlineError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment, with the time that led to it."""

    at: float
    """Unix time in seconds."""
    timeout_s: float
    """Seconds that the request had when it arrived."""

    @classmethod
    def after(cls, timeout_s: float) -> "Deadline":
        """Return the deadline of a request that arrives now."""
        return cls(time.time() + timeout_s, timeout_s)

    def left(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(0.0, self.at - time.time())

    async def within(self, work: Awaitable[T]) -> T:
        """Return what `work` returns, if it does so before the deadline.

        Raises:
            DeadlineError: it does not; it is cancelled.
        """
        # One wait per event rather than one timeout around all: a stream is read from another task than it began in.
        # Not asyncio.wait_for, which in Python 3.11 loses a cancellation that comes with the result (cpython#86296).
        try:
            async with asyncio.timeout(self.left()):
                return await work
        except TimeoutError as error:
            raise self.passed() from error

    def passed(self) -> DeadlineError:
        """Return the error of a request whose deadline has passed."""
        return DeadlineError(f"no answer within {self.timeout_s:g} s; the work was stopped")
