"""Service: what the routes work with."""

from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request

from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from rag.retriever import Hit
from serve_apps.aliases.live_tables import LiveTables
from serve_apps.answering import Answering
from serve_apps.config import AppConfig


class Searcher(Protocol):
    """What finds sources: the retriever deployment."""

    async def search(self, version: ArtifactVersion, question: str, k: int) -> list[Hit]:
        """Return the `k` nearest chunks of an index."""
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
