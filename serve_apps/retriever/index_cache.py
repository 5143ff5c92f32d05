"""IndexCache: the versions that a replica can search at once; others are opened when a request asks for them."""

import asyncio
from collections.abc import Callable

from llama_platform.artifacts.repository import ArtifactVersion
from rag.search.retriever import Retriever

MAX_UNPINNED = 2
IDLE_S = 300.0
"""How long a version is held that was opened for a request, after the last one."""
GRACE_S = 10.0
"""How long a version that no alias names any more is still held, for requests that were sent to it."""


class IndexCache:
    """Versions by digest; all state lives in the event loop."""

    def __init__(self, open_version: Callable[[ArtifactVersion], Retriever]) -> None:
        """Begin without versions.

        Args:
            open_version: loads a version, or raises why it must not be searched; called in a thread.
        """
        self._open = open_version
        self._pinned: dict[str, Retriever] = {}
        self._others: dict[str, Retriever] = {}
        self._until: dict[str, float] = {}
        self._opening: dict[str, asyncio.Task[Retriever]] = {}

    async def get(self, version: ArtifactVersion) -> Retriever:
        """Return a version's retriever, opening it first if it is not held."""
        digest = version.digest
        if (retriever := self._pinned.get(digest)) is not None:
            return retriever
        if (retriever := self._others.get(digest)) is None:
            retriever = await self._opened(version)
        if digest not in self._pinned:
            self._keep(digest, retriever, IDLE_S)
            while len(self._others) > MAX_UNPINNED:
                del self._others[next(iter(self._others))]
        return retriever

    async def pin(self, version: ArtifactVersion) -> None:
        """Hold a version until it is unpinned."""
        held = self._others.pop(version.digest, None)
        self._pinned[version.digest] = held if held is not None else await self._opened(version)

    async def unpin(self, version: ArtifactVersion) -> None:
        """Let go of a version, after a while."""
        self._keep(version.digest, self._pinned.pop(version.digest), GRACE_S)

    async def _opened(self, version: ArtifactVersion) -> Retriever:
        """Open a version once for all who wait for it; one of them leaving does not end it."""
        digest = version.digest
        if digest not in self._opening:
            self._opening[digest] = asyncio.ensure_future(asyncio.to_thread(self._open, version))
            self._opening[digest].add_done_callback(lambda _: self._opening.pop(digest))
        return await asyncio.shield(self._opening[digest])

    def _keep(self, digest: str, retriever: Retriever, seconds: float) -> None:
        """Hold a version as the latest of the others, until it has been idle for so long."""
        self._others.pop(digest, None)
        self._others[digest] = retriever
        until = self._until[digest] = asyncio.get_running_loop().time() + seconds
        asyncio.get_running_loop().call_later(seconds, self._forget, digest, until)

    def _forget(self, digest: str, until: float) -> None:
        if self._until.get(digest) == until:
            del self._until[digest]
            self._others.pop(digest, None)
