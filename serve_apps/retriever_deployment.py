"""Retriever deployment: one replica holds the embedding model and the snapshots that were asked for."""

import asyncio
import os
from dataclasses import dataclass
from typing import Any

from llama_platform.artifacts.location import repository_from
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.logs import setup_logging
from rag.embedding import SentenceTransformerEmbedder
from rag.retriever import Hit, Retriever
from rag.snapshot import read_snapshot
from serve_apps.alias_table import AliasTable
from serve_apps.config import AppConfig

MAX_SNAPSHOTS = 4


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, and the index version they are from."""

    version: ArtifactVersion
    hits: list[Hit]


class RetrieverDeployment:
    """Searches for the ingress."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Load the embedding model.

        Args:
            config: AppConfig as JSON.
        """
        setup_logging()
        self._config = AppConfig.model_validate(config)
        self._repository = repository_from(self._config.store, os.environ)
        threads = {"threads": self._config.retriever.num_threads()}
        self._embedder = SentenceTransformerEmbedder(self._config.embedding.model_copy(update=threads))
        self._indexes = AliasTable(self._repository, "index", self._config.alias_ttl_s)
        self._retrievers: dict[str, Retriever] = {}
        self._loading = asyncio.Lock()

    async def search(self, index: str, question: str, k: int, subject: str) -> Found:
        """Return the `k` nearest chunks of the index that `index` names.

        Raises:
            NotFoundError: there is no such index.
            IntegrityError: the snapshot is damaged; it is never loaded.
        """
        version, _ = await self._indexes.resolve(index, subject)
        if version.digest not in self._retrievers:
            async with self._loading:
                if version.digest not in self._retrievers:
                    self._retrievers[version.digest] = await asyncio.to_thread(self._open, version)
        retriever = self._retrievers[version.digest] = self._retrievers.pop(version.digest)  # now the latest
        while len(self._retrievers) > MAX_SNAPSHOTS:
            del self._retrievers[next(iter(self._retrievers))]
        return Found(version, await asyncio.to_thread(retriever.search, question, k))

    def _open(self, version: ArtifactVersion) -> Retriever:
        return Retriever(read_snapshot(self._repository.fetch(version)), self._embedder)
