"""AppState: the collaborators of the routes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from fastapi import Depends, Request

from llama_platform.access.meter import Meter
from llama_platform.access.replies import Replies
from llama_platform.access.usage import Prices, UsageBook
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.breaker import Breaker
from llama_platform.canary.counts import SplitBook
from rag.documents.document import Document
from rag.embedding import EmbeddingResult
from rag.search.query import Query, SearchResult
from serve_apps.api.auditing import Auditor
from serve_apps.api.conversations import Conversations
from serve_apps.api.drain import Drain
from serve_apps.api.tracing import NoTracer, Tracer
from serve_apps.api.traffic import Traffic
from serve_apps.config import AppConfig, PricesConfig
from serve_apps.generation.safety import Safety
from serve_apps.generation.service import GenerationService
from serve_apps.routing.key_book import KeyBook
from serve_apps.routing.router import AliasRouter
from serve_apps.worker_pools import WorkerPools


class Searcher(Protocol):
    """What finds sources: the retriever deployment."""

    async def search(
        self, version: ArtifactVersion | None, query: Query, inline: Sequence[Document], deadline: float
    ) -> SearchResult:
        """Return the best chunks of an index and of inline documents.

        Args:
            version: version of the index; None to search only what is inline.
            query: what is asked.
            inline: documents that only this request knows.
            deadline: Unix time in seconds.
        """
        ...

    async def embed(self, texts: Sequence[str], deadline: float) -> EmbeddingResult:
        """Return the vectors of texts, and how many tokens they have."""
        ...

    async def texts(self, token_ids: Sequence[Sequence[int]], deadline: float) -> list[str]:
        """Return the texts of the embedding model's own tokens."""
        ...

    async def rerank(self, question: str, texts: Sequence[str], deadline: float) -> tuple[list[float], int]:
        """Return (from 0 to 1 for each text, how well it answers the question; tokens that were read)."""
        ...


@dataclass(frozen=True, slots=True)
class JobState:
    """How far a job is."""

    job: str
    status: str
    """`PENDING`, `RUNNING`, `SUCCEEDED`, `FAILED` or `STOPPED`."""
    log: list[str]
    """The last lines."""


class IndexJobs(Protocol):
    """What changes indexes."""

    def submit(self, index: str, change_id: str) -> str:
        """Queue a change that waits in the store, and return the job's id."""
        ...

    def status(self, job_id: str) -> JobState:
        """Tell how far a job is."""
        ...


@dataclass(frozen=True, slots=True)
class AppState:
    """What the routes of one ingress replica share."""

    config: AppConfig
    repository: ArtifactRepository
    router: AliasRouter
    generation: GenerationService
    searcher: Searcher | None
    """None where retrieval is off."""
    jobs: IndexJobs
    pools: WorkerPools
    meter: Meter
    """Counts what keys and tenants use."""
    usage: UsageBook
    """What was used, for reports."""
    splits: SplitBook
    """What requests came to, by version, while aliases split their traffic."""
    safety: Safety
    """Rules for texts, by tenant."""
    replies: Replies
    """Answers that are kept for their Idempotency-Key."""
    auditor: Auditor
    """Writes the audit trail."""
    traffic: Traffic = field(default_factory=Traffic)
    """What this replica answered in the last hour."""
    tracer: Tracer = field(default_factory=NoTracer)
    """Sends traces of requests that have ended."""
    conversations: Conversations | None = None
    """Keeps conversations that adapters may learn from; None where nobody does."""
    drain: Drain = field(default_factory=Drain)
    """Requests that are being answered."""
    breakers: Sequence[Breaker] = ()
    """Those before what this replica asks."""
    keys: KeyBook | None = None
    """Keys of clients; None where whoever reaches the port may ask."""


async def _state(request: Request) -> AppState:  # a plain function would cost a visit to a thread pool
    state: AppState = request.app.state.state
    return state


WithState = Annotated[AppState, Depends(_state)]


def prices_of(config: PricesConfig) -> Prices:
    """Return the configuration's prices."""
    return Prices(config.prompt, config.prompt if config.cached is None else config.cached, config.completion)


def retry_after_s(state: AppState) -> int:
    """Return in how many seconds a place in the queue should be free, from what replicas say of their load."""
    replicas = state.generation.replicas()
    running = sum(status.running for status in replicas) or 1
    waiting = sum(status.waiting for status in replicas)
    response_s = max((status.response_s for status in replicas), default=0.0)
    return int(min(60, max(1, response_s * (1 + waiting / running) / 2)))
