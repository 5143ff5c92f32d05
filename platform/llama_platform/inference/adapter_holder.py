"""AdapterHolder: loads adapters into an engine as requests need them, and keeps each while a request uses it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import DeadlineError, PlatformError, UnavailableError
from llama_platform.inference.protocol import Engine


class AdapterHolder:
    """All state lives in one event loop."""

    def __init__(
        self,
        engine: Engine,
        fetched: Callable[[ArtifactVersion], AbstractContextManager[Path]],
        on_load: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        """Serve `engine`.

        Args:
            engine: gets the adapters.
            fetched: yields the verified folder of a version, for as long as its context lasts.
            on_load: called with `loaded` or `refused` after each attempt to load.
        """
        self._engine, self._fetched, self._on_load = engine, fetched, on_load
        self._loading: dict[str, asyncio.Lock] = {}
        self._users = 0
        self._released = asyncio.Event()

    @asynccontextmanager
    async def held(self, version: ArtifactVersion, deadline: float | None = None) -> AsyncIterator[None]:
        """Keep an adapter loaded while the context lasts; load it first, or wait for room, if it must be.

        Args:
            version: the adapter.
            deadline: `time.time()` after which room is no longer waited for; None waits for ever.

        Raises:
            IntegrityError: it is damaged or does not fit the base.
            UnavailableError: there is no room for it although nothing is in use.
            DeadlineError: others kept the room for too long.
        """
        while not self._engine.hold_adapter(version.digest):
            released = self._released
            try:
                await self.load(version)
            except UnavailableError:
                if not self._users:
                    raise
                await _wait(released, deadline)
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._engine.release_adapter(version.digest)
            self._released.set()
            self._released = asyncio.Event()

    async def load(self, version: ArtifactVersion, pinned: bool = False) -> None:
        """Load an adapter unless it is; see Engine.load_adapter."""
        # One download and one load of an adapter are enough; different ones do not wait for each other.
        async with self._loading.setdefault(version.digest, asyncio.Lock()):
            known = version.digest in self._engine.stats().adapters
            if known and not pinned:
                return
            try:
                with await asyncio.to_thread(self._entered, version) as folder:
                    await self._engine.load_adapter(version.digest, folder, pinned)
            except PlatformError:
                self._on_load("refused")
                raise
            if not known:
                self._on_load("loaded")

    async def unpin(self, version: ArtifactVersion) -> None:
        """Let an adapter go when others need its place."""
        if version.digest in self._engine.stats().adapters:
            with await asyncio.to_thread(self._entered, version) as folder:
                await self._engine.load_adapter(version.digest, folder, pinned=False)

    def _entered(self, version: ArtifactVersion) -> "_Entered":
        return _Entered(self._fetched(version))


class _Entered:
    """A context that was entered in another thread; leaving it is quick."""

    def __init__(self, context: AbstractContextManager[Path]) -> None:
        self._context = context
        self._folder = context.__enter__()

    def __enter__(self) -> Path:
        return self._folder

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)


async def _wait(event: asyncio.Event, deadline: float | None) -> None:
    try:
        async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.time())):
            await event.wait()
    except TimeoutError as error:
        raise DeadlineError("the deadline passed while other adapters were using the memory for adapters") from error
