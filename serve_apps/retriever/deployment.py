"""Retriever deployment: one replica holds the embedding model and the snapshots that were asked for."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
from ray import serve
from ray.serve.handle import DeploymentHandle

from llama_platform.artifacts.location import repository_from
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.device import assigned_device
from llama_platform.errors import DeadlineError, InputError
from llama_platform.logs import setup_logging
from rag.documents.chunking import ChunkingConfig
from rag.documents.document import Document
from rag.documents.sandbox import make_cutter
from rag.embedding import EmbeddingResult, SentenceTransformerEmbedder, Vectors
from rag.search.inline import search_inline
from rag.search.query import Query, SearchResult, merge
from rag.search.reranking import CrossEncoderReranker
from rag.search.retriever import Retriever
from rag.snapshot import read_snapshot
from serve_apps.config import AppConfig
from serve_apps.retriever.index_cache import IndexCache
from serve_apps.routing.replica_agent import ReplicaAgent

AT_ONCE = 32
"""Texts that are embedded without looking up."""
BULK_THREADS = 2
T = TypeVar("T")


class RetrieverDeployment:
    """Searches and embeds for the ingress."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: dict[str, Any], controller: DeploymentHandle
    ) -> None:
        """Load the embedding model and the snapshots that aliases name.

        Args:
            config: AppConfig as JSON.
            controller: the AliasController.
        """
        setup_logging()
        self._config = AppConfig.model_validate(config)
        self._repository = repository_from(self._config.store, os.environ)
        await asyncio.to_thread(self._load_models)
        self._held = IndexCache(self._open)
        # Long work has threads of its own, so that questions need not wait for one.
        self._bulk = ThreadPoolExecutor(BULK_THREADS, "bulk")
        replica = serve.get_replica_context().replica_id.unique_id
        self._agent = ReplicaAgent(controller, "index", replica, load=self._held.pin, release=self._held.unpin)
        await self._agent.start()

    async def search(
        self, version: ArtifactVersion | None, query: Query, inline: Sequence[Document], deadline: float
    ) -> SearchResult:
        """Return the best chunks of an index, which is loaded first if it is not, and of inline documents.

        Args:
            version: the index; None to search the inline documents alone.
            query: question, mode, filters and number of hits.
            inline: documents of the request itself.
            deadline: seconds since the epoch after which nobody waits for the answer.

        Raises:
            IntegrityError: the snapshot is damaged; it is never loaded.
            InputError: it was made with another embedding model.
            DeadlineError: the deadline has passed.
        """
        begun = time.perf_counter()
        vector, judged = await self._embed_question(query.question), None
        if query.judged is not None:
            judged = await self._embed_question(query.judged)
        found = [SearchResult([], {"embed_ms": round((time.perf_counter() - begun) * 1000, 2)})]
        if version is not None:
            retriever = await self._held.get(version)
            found.append(await self._work(deadline, lambda: retriever.search(query, vector, judged)))
        if inline:
            found.append(
                await self._work(
                    deadline,
                    lambda: search_inline(query, vector, inline, self._cut, self._embedder, self._reranker, judged),
                    self._bulk,
                )
            )
        return merge(found, query.k)

    async def embed(self, texts: Sequence[str], deadline: float) -> EmbeddingResult:
        """Return the vectors of texts.

        Raises:
            InputError: one is longer than the model reads.
            DeadlineError: the deadline has passed.
        """
        tokens = await self._work(deadline, lambda: self._count(texts), self._bulk)
        parts = []
        for start in range(0, len(texts), AT_ONCE):  # between these the deadline counts, and whoever asked may leave
            work = partial(self._embedder.embed, texts[start : start + AT_ONCE])
            parts.append(await self._work(deadline, work, self._bulk))
        return EmbeddingResult(np.concatenate(parts), tokens)

    async def texts(self, token_ids: Sequence[Sequence[int]], deadline: float) -> list[str]:
        """Return the texts of the embedding model's own tokens.

        Raises:
            InputError: one is none of them.
            DeadlineError: the deadline has passed.
        """
        return await self._work(deadline, lambda: [self._embedder.text_of(ids) for ids in token_ids], self._bulk)

    async def rerank(self, question: str, texts: Sequence[str], deadline: float) -> tuple[list[float], int]:
        """Return (from 0 to 1 for each text, how well it answers the question; tokens that were read).

        Raises:
            InputError: there is no reranker, or a text is longer than it reads.
            DeadlineError: the deadline has passed.
        """
        reranker = self._reranker
        if reranker is None:
            raise InputError("rag.rerank names no model")
        tokens = await self._work(deadline, lambda: reranker.count_tokens(question, texts), self._bulk)
        scores: list[float] = []
        for start in range(0, len(texts), AT_ONCE):
            work = partial(reranker.scores, question, texts[start : start + AT_ONCE])
            scores += await self._work(deadline, work, self._bulk)
        return scores, tokens

    def _count(self, texts: Sequence[str]) -> int:
        tokens, longest = 0, self._embedder.max_tokens
        for place, text in enumerate(texts):
            count = self._embedder.count_tokens(text)
            if count > longest:
                raise InputError(f"input.{place}: {count} tokens; '{self._embedder.name}' reads {longest}")
            tokens += count
        return tokens

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0)  # type: ignore[untyped-decorator]
    async def _embed_question(self, questions: list[str]) -> list[Vectors]:
        """Embed what has come meanwhile in one pass; of each question, the vectors of its parts."""

        def embed() -> list[Vectors]:
            parts = [self._embedder.parts(question) for question in questions]
            vectors = self._embedder.embed([part for of_question in parts for part in of_question])
            return np.split(vectors, np.cumsum([len(of_question) for of_question in parts])[:-1])

        return await asyncio.to_thread(embed)

    async def _work(self, deadline: float, work: Callable[[], T], executor: Executor | None = None) -> T:
        if time.time() >= deadline:
            raise DeadlineError("the deadline passed before the search was done")
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    def _load_models(self) -> None:
        threads = {"threads": self._config.retriever.num_threads()}
        device = str(assigned_device())
        self._embedder = SentenceTransformerEmbedder(self._config.embedding.model_copy(update=threads), device)
        self._embedding = (self._embedder.name, self._embedder.fingerprint)
        usual = ChunkingConfig()
        chunking = ChunkingConfig(chunk_tokens=min(usual.chunk_tokens, self._embedder.max_tokens))
        self._cut = make_cutter(chunking, self._embedder.model.tokenizer)
        rerank = self._config.rag.rerank
        self._reranker = CrossEncoderReranker(rerank, device) if rerank is not None else None
        self._embedder.embed(["the first pass takes longer than the others"])

    def _open(self, version: ArtifactVersion) -> Retriever:
        with self._repository.fetched(version) as folder:
            return Retriever(read_snapshot(folder), self._embedding, self._reranker)
