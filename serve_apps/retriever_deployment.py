"""Retriever deployment: one replica holds the embedding model and the snapshots that were asked for."""

import asyncio
import os
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from llama_platform.artifacts.location import repository_from
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.logs import setup_logging
from rag.embedding import SentenceTransformerEmbedder
from rag.retriever import Hit, Retriever
from rag.snapshot import read_snapshot
from serve_apps.aliases.holder import VersionHolder
from serve_apps.config import AppConfig

MAX_UNPINNED = 4


class RetrieverDeployment:
    """Searches for the ingress."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: dict[str, Any], follower: DeploymentHandle
    ) -> None:
        """Load the embedding model and the snapshots that aliases name.

        Args:
            config: AppConfig as JSON.
            follower: the AliasFollower.
        """
        setup_logging()
        self._config = AppConfig.model_validate(config)
        self._repository = repository_from(self._config.store, os.environ)
        threads = {"threads": self._config.retriever.num_threads()}
        self._embedder = await asyncio.to_thread(
            SentenceTransformerEmbedder, self._config.embedding.model_copy(update=threads)
        )
        self._pinned: dict[str, Retriever] = {}
        self._others: dict[str, Retriever] = {}
        self._loading = asyncio.Lock()
        replica = serve.get_replica_context().replica_id.unique_id
        self._holder = VersionHolder(
            follower, "index", replica, load=self._pin, release=self._unpin, facts=lambda: {"ready": True}
        )
        await self._holder.start()

    async def search(self, version: ArtifactVersion, question: str, k: int) -> list[Hit]:
        """Return the `k` nearest chunks of an index, which is loaded first if it is not.

        Raises:
            IntegrityError: the snapshot is damaged; it is never loaded.
            InputError: it was made with another embedding model.
        """
        retriever = self._pinned.get(version.digest) or await self._on_demand(version)
        return await asyncio.to_thread(retriever.search, question, k)

    async def _on_demand(self, version: ArtifactVersion) -> Retriever:
        async with self._loading:
            retriever = self._pinned.get(version.digest) or self._others.pop(version.digest, None)
            if retriever is None:
                retriever = await asyncio.to_thread(self._open, version)
            self._others[version.digest] = retriever  # now the latest
            while len(self._others) > MAX_UNPINNED:
                del self._others[next(iter(self._others))]
        return retriever

    async def _pin(self, version: ArtifactVersion) -> None:
        async with self._loading:
            retriever = self._others.pop(version.digest, None)
            if retriever is None:
                retriever = await asyncio.to_thread(self._open, version)
            self._pinned[version.digest] = retriever

    async def _unpin(self, version: ArtifactVersion) -> None:
        self._pinned.pop(version.digest, None)

    def _open(self, version: ArtifactVersion) -> Retriever:
        return Retriever(read_snapshot(self._repository.fetch(version)), self._embedder)
