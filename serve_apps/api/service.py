"""Service: what the routes work with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request

from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from rag.documents.document import Document
from rag.embedding import Embedded
from rag.search.retriever import Found, Query
from serve_apps.aliases.live_tables import LiveTables
from serve_apps.answering import Answering
from serve_apps.config import AppConfig


class Searcher(Protocol):
    """What finds sources: the retriever deployment."""

    async def search(
        self, version: ArtifactVersion | None, query: Query, inline: Sequence[Document], deadline: float
    ) -> Found:
        """Return the best chunks of an index and of inline documents.

        Args:
            version: of the index; None to search only what is inline.
            query: what is asked.
            inline: documents that only this request knows.
            deadline: `time.time()`
        """
        ...

    async def embed(self, texts: Sequence[str], deadline: float) -> Embedded:
        """Return the vectors of texts, and how many tokens they have."""
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
class Service:
    """One for an ingress replica."""

    config: AppConfig
    repository: ArtifactRepository
    live: LiveTables
    answering: Answering
    searcher: Searcher | None
    """None where retrieval is off."""
    jobs: IndexJobs


async def _service(request: Request) -> Service:  # a plain function would cost a visit to a thread pool
    service: Service = request.app.state.service
    return service


WithService = Annotated[Service, Depends(_service)]


def retry_after_s(service: Service) -> int:
    """Return in how many seconds a place in the queue should be free, from what replicas say of their load."""
    loads = service.answering.replicas()
    running = sum(load["running"] for load in loads) or 1
    waiting = sum(load["waiting"] for load in loads)
    response_s = max((load["response_s"] for load in loads), default=0.0)
    return int(min(60, max(1, response_s * (1 + waiting / running) / 2)))
