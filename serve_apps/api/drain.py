"""Drain: letting what has begun end before the application stops."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

LOOK_S = 0.1


class Drain:
    """Requests that are being answered, and whether new ones should go elsewhere; lives in one event loop."""

    def __init__(self) -> None:
        """Begin with none."""
        self.ongoing = 0
        self.begun = False

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a request while the context lasts."""
        self.ongoing += 1
        try:
            yield
        finally:
            self.ongoing -= 1

    async def wait(self, seconds: float) -> int:
        """Say that the application is going, and return when nothing is being answered any more, or after `seconds`.

        Requests that come meanwhile are answered still: a load balancer learns from its next look at
        `/health/ready` that they should go elsewhere.

        Returns:
            How many requests are left.
        """
        self.begun = True
        end = asyncio.get_running_loop().time() + seconds
        while self.ongoing and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(LOOK_S)
        return self.ongoing
