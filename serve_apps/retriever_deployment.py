"""Retriever deployment: one replica holds the embedding model and the snapshots that were asked for."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from ray import serve
from ray.serve.handle import DeploymentHandle

from llama_platform.artifacts.location import repository_from
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import DeadlineError, InputError
from llama_platform.logs import setup_logging
from rag.chunking import Chunk, ChunkingConfig
from rag.dense_index import IndexingConfig
from rag.documents.document import Document
from rag.documents.guarded import make_cutter
from rag.embedding import Embedded, SentenceTransformerEmbedder, Vectors
from rag.reranking import CrossEncoderReranker
from rag.retriever import Found, Query, Retriever
from rag.snapshot import make_snapshot, read_snapshot
from serve_apps.aliases.holder import VersionHolder
from serve_apps.config import AppConfig

MAX_UNPINNED = 4
GRACE_S = 10.0
"""How long a version that no alias names any more is still held, for requests that were sent to it."""
T = TypeVar("T")


class RetrieverDeployment:
    """Searches and embeds for the ingress."""

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
        await asyncio.to_thread(self._load_models)
        self._pinned: dict[str, Retriever] = {}
        self._others: dict[str, Retriever] = {}
        self._loading = asyncio.Lock()
        replica = serve.get_replica_context().replica_id.unique_id
        self._holder = VersionHolder(
            follower, "index", replica, load=self._pin, release=self._unpin, facts=lambda: {"ready": True}
        )
        await self._holder.start()

    async def search(
        self, version: ArtifactVersion | None, query: Query, inline: Sequence[Document], deadline: float
    ) -> Found:
        """Return the best chunks of an index, which is loaded first if it is not, and of inline documents.

        Raises:
            IntegrityError: the snapshot is damaged; it is never loaded.
            InputError: it was made with another embedding model.
            DeadlineError: the deadline has passed.
        """
        begun = time.perf_counter()
        vector = await self._embed_question(query.question)
        embedded = {"embed_ms": round((time.perf_counter() - begun) * 1000, 2)}
        found: list[Found] = []
        if version is not None:
            retriever = self._pinned.get(version.digest) or await self._on_demand(version)
            found.append(await self._work(deadline, lambda: retriever.search(query, vector)))
        if inline:
            found.append(await self._work(deadline, lambda: self._search_inline(query, vector, inline)))
        hits = sorted((hit for one in found for hit in one.hits), key=lambda hit: -hit.score)[: query.k]
        timings = {key: round(sum(one.timings_ms.get(key, 0.0) for one in found), 2) for key in found[0].timings_ms}
        return Found(hits if len(found) > 1 else found[0].hits, embedded | timings)

    async def embed(self, texts: Sequence[str], deadline: float) -> Embedded:
        """Return the vectors of texts.

        Raises:
            InputError: one is longer than the model reads.
            DeadlineError: the deadline has passed.
        """
        return await self._work(deadline, lambda: self._embed_texts(texts))

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0)  # type: ignore[untyped-decorator]
    async def _embed_question(self, questions: list[str]) -> list[Vectors]:
        """Embed what has come meanwhile in one pass."""
        return list(await asyncio.to_thread(self._embedder.embed, questions))

    async def _work(self, deadline: float, work: Callable[[], T]) -> T:
        if time.time() >= deadline:
            raise DeadlineError("the deadline passed before the search; nothing was done")
        return await asyncio.to_thread(work)

    def _load_models(self) -> None:
        threads = {"threads": self._config.retriever.num_threads()}
        self._embedder = SentenceTransformerEmbedder(self._config.embedding.model_copy(update=threads))
        self._embedding = (self._embedder.name, self._embedder.fingerprint)
        self._cut = make_cutter(ChunkingConfig(), self._embedder.model.tokenizer)
        rerank = self._config.rag.rerank
        self._reranker = CrossEncoderReranker(rerank) if rerank is not None else None
        self._embedder.embed(["the first pass takes longer than the others"])

    def _embed_texts(self, texts: Sequence[str]) -> Embedded:
        counts = [self._embedder.count_tokens(text) for text in texts]
        longest = self._embedder.max_tokens
        for place, count in enumerate(counts):
            if count > longest:
                raise InputError(f"input.{place}: {count} tokens; '{self._embedder.name}' reads {longest}")
        return Embedded(self._embedder.embed(texts), sum(counts))

    def _search_inline(self, query: Query, vector: Vectors, inline: Sequence[Document]) -> Found:
        chunks: list[Chunk] = [chunk for document in inline for chunk in self._cut(document).chunks]
        if not chunks:
            return Found([])
        vectors = self._embedder.embed([chunk.embedded_text() for chunk in chunks]).astype(np.float16)
        snapshot = make_snapshot(chunks, vectors, self._embedding, IndexingConfig(kind="flat"))
        # Filters are of an index; what came with the request is meant to be found.
        return Retriever(snapshot, self._embedding, self._reranker).search(replace(query, filters=None), vector)

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
        retriever = self._pinned.pop(version.digest)
        self._others[version.digest] = retriever
        asyncio.get_running_loop().call_later(GRACE_S, self._forget, version.digest, retriever)

    def _forget(self, digest: str, retriever: Retriever) -> None:
        if self._others.get(digest) is retriever:
            del self._others[digest]

    def _open(self, version: ArtifactVersion) -> Retriever:
        return Retriever(read_snapshot(self._repository.fetch(version)), self._embedding, self._reranker)
