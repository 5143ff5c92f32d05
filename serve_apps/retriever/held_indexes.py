"""HeldIndexes: the versions that a replica can search at once; others are opened when a request asks for them."""

import asyncio
from collections.abc import Callable

from llama_platform.artifacts.repository import ArtifactVersion
from rag.retriever import Retriever

MAX_UNPINNED = 4
GRACE_S = 10.0
"""How long a version that no alias names any more is still held, for requests that were sent to it."""


class HeldIndexes:
    """By digest; all state lives in the event loop."""

    def __init__(self, open_version: Callable[[ArtifactVersion], Retriever]) -> None:
        """Hold nothing yet.

        Args:
            open_version: loads a version, or raises why it must not be searched; called in a thread.
        """
        self._open = open_version
        self._pinned: dict[str, Retriever] = {}
        self._others: dict[str, Retriever] = {}
        self._loading = asyncio.Lock()

    async def get(self, version: ArtifactVersion) -> Retriever:
        """Return a version's retriever, opening it first if it is not held."""
        if (retriever := self._pinned.get(version.digest)) is not None:
            return retriever
        async with self._loading:
            retriever = self._pinned.get(version.digest) or self._others.pop(version.digest, None)
            if retriever is None:
                retriever = await asyncio.to_thread(self._open, version)
            self._others[version.digest] = retriever  # now the latest
            while len(self._others) > MAX_UNPINNED:
                del self._others[next(iter(self._others))]
        return retriever

    async def pin(self, version: ArtifactVersion) -> None:
        """Hold a version until it is unpinned."""
        async with self._loading:
            retriever = self._others.pop(version.digest, None)
            if retriever is None:
                retriever = await asyncio.to_thread(self._open, version)
            self._pinned[version.digest] = retriever

    async def unpin(self, version: ArtifactVersion) -> None:
        """Let go of a version, after a while."""
        retriever = self._pinned.pop(version.digest)
        self._others[version.digest] = retriever
        asyncio.get_running_loop().call_later(GRACE_S, self._forget, version.digest, retriever)

    def _forget(self, digest: str, retriever: Retriever) -> None:
        if self._others.get(digest) is retriever:
            del self._others[digest]
