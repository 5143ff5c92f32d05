"""AdapterHolder: loads adapters into an engine as requests need them, and keeps each while a request uses it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import DeadlineError, PlatformError, UnavailableError
from llama_platform.inference.protocol import Engine

MAX_KEPT_FOLDERS = 256
"""Adapters that an engine which reads their folders again may have; the least recently used are unloaded."""
TURN_S = 2.0
"""How long a request waits for a place before others must let it go first, in seconds."""
TRIES, PAUSE_S = 4, 0.05
"""A request that was cancelled leaves its adapter a step later than its user leaves: room is looked for again."""


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
        self._users: Counter[str] = Counter()
        self._released = asyncio.Event()
        self._turns: dict[object, tuple[float, str]] = {}
        """Since when each request has waited for its adapter, and which that is, in order of arrival."""
        self._kept: dict[str, _Entered] = {}
        self._pinned: set[str] = set()

    @asynccontextmanager
    async def held(self, version: ArtifactVersion, deadline: float | None = None) -> AsyncIterator[None]:
        """Keep an adapter loaded while the context lasts; load it first, or wait for room, if it must be.

        Args:
            version: the adapter.
            deadline: Unix time after which room is no longer waited for; None waits for ever.

        Raises:
            IntegrityError: it is damaged or does not fit the base.
            UnavailableError: there is no room for it although nothing is in use.
            DeadlineError: others kept the room for too long.
        """
        digest, ticket = version.digest, object()
        self._turns[ticket] = time.monotonic(), digest
        try:
            await self._take(version, ticket, deadline)
        finally:
            del self._turns[ticket]
            self._wake()
        self._users[digest] += 1
        if digest in self._kept:
            self._kept[digest] = self._kept.pop(digest)  # now the latest
        try:
            yield
        finally:
            self._users[digest] -= 1
            self._engine.release_adapter(digest)
            self._wake()

    async def _take(self, version: ArtifactVersion, ticket: object, deadline: float | None) -> None:
        alone = 0
        while True:
            released = self._released
            if self._is_behind(ticket, version.digest):
                await _wait(released, deadline)
                continue
            if self._engine.hold_adapter(version.digest):
                return
            try:
                await self.load(version)
            except UnavailableError:
                if self._users.total():
                    await _wait(released, deadline)
                    continue
                alone += 1
                if alone >= TRIES:
                    raise
                await asyncio.sleep(PAUSE_S)

    def _is_behind(self, ticket: object, digest: str) -> bool:
        """Tell whether one that came before has waited so long for another adapter that its turn comes first.

        Requests for adapters that are loaded would keep them in use for ever, and one that needs a place out.
        """
        now = time.monotonic()
        for other, (since, wanted) in self._turns.items():
            if other is ticket:
                return False
            if wanted != digest and now - since > TURN_S:
                return True
        return False

    def _wake(self) -> None:
        self._released.set()
        self._released = asyncio.Event()

    async def load(self, version: ArtifactVersion, pinned: bool = False) -> None:
        """Load an adapter unless it is; see Engine.load_adapter."""
        # One download and one load of an adapter are enough; different ones do not wait for each other.
        async with self._loading.setdefault(version.digest, asyncio.Lock()):
            if version.digest in self._engine.stats().adapters:
                if not pinned:
                    return
                if self._engine.pin_adapter(version.digest):  # nothing need be read, and the store may be away
                    self._pinned.add(version.digest)
                    return
            try:
                await self._load(version, pinned)
            except PlatformError:
                self._on_load("refused")
                raise
            self._on_load("loaded")

    def unpin(self, version: ArtifactVersion) -> None:
        """Let an adapter go when others need its place."""
        self._pinned.discard(version.digest)
        self._engine.unpin_adapter(version.digest)

    async def _load(self, version: ArtifactVersion, pinned: bool) -> None:
        digest, entered = version.digest, await asyncio.to_thread(_Entered, self._fetched(version))
        keeps = False
        try:
            await self._engine.load_adapter(digest, entered.folder, pinned)
            keeps = self._engine.keeps_folders and digest not in self._kept
        finally:
            if not keeps:
                entered.leave()
        if pinned:
            self._pinned.add(digest)
        if keeps:
            self._kept[digest] = entered
            await self._unload_idle()

    async def _unload_idle(self) -> None:
        idle = [digest for digest in self._kept if not self._users[digest] and digest not in self._pinned]
        for digest in idle[: max(0, len(self._kept) - MAX_KEPT_FOLDERS)]:
            await self._engine.unload_adapter(digest)
            self._kept.pop(digest).leave()


class _Entered:
    """A context that is entered in a thread, since that may take long, and left in the event loop."""

    def __init__(self, context: AbstractContextManager[Path]) -> None:
        self._context = context
        self.folder = context.__enter__()

    def leave(self) -> None:
        self._context.__exit__(None, None, None)


async def _wait(event: asyncio.Event, deadline: float | None) -> None:
    try:
        async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.time())):
            await event.wait()
    except TimeoutError as error:
        raise DeadlineError("the deadline passed while other adapters were using the memory for adapters") from error
