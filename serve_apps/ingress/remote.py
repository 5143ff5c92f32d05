"""The other deployments behind their handles, with Ray's errors as the platform's."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from llama_platform.access.keys import AccessDocument
from llama_platform.artifacts.manifest import ArtifactKind
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.breaker import Breaker
from llama_platform.errors import OverloadedError, PlatformError, ReplicaLostError, StorageError, UnavailableError
from llama_platform.inference.protocol import GenerationRequest, IndexedEvent
from rag.documents.document import Document
from rag.embedding import EmbeddingResult
from rag.search.query import Query, SearchResult
from serve_apps.routing.table import RoutingTable


@contextmanager
def translated() -> Iterator[None]:
    """Raise the platform's errors for Ray's; Serve would answer these itself, as plain text.

    Raises:
        OverloadedError: the deployment's queue is full.
        UnavailableError: it has no replica.
        ReplicaLostError: the replica has died.
    """
    try:
        yield
    except BackPressureError as error:
        raise OverloadedError("too many requests are waiting; try again shortly") from error
    except DeploymentUnavailableError as error:
        raise UnavailableError("no replica can be started right now") from error
    except RayActorError as error:
        raise ReplicaLostError("the replica was lost while it answered; ask again") from error


def is_failure(error: BaseException) -> bool:
    """Return whether an error says that a deployment is in trouble, rather than something of the request."""
    if isinstance(error, OverloadedError):
        return False
    return isinstance(error, UnavailableError | ReplicaLostError | StorageError) or not isinstance(error, PlatformError)


class RemoteGenerator:
    """The Llama deployment; see Generator."""

    def __init__(self, handle: Any) -> None:
        """Ask through `handle`."""
        self._handle = handle.options(stream=True)
        self.breaker = Breaker("model", counts=is_failure)

    async def generate(
        self, requests: Sequence[GenerationRequest], adapter: ArtifactVersion | None
    ) -> AsyncGenerator[list[IndexedEvent], None]:
        """Yield the events of the answers; closing it cancels them."""
        with self.breaker.guarding():  # until it begins to answer; an answer that breaks off has begun
            stream = self._handle.generate.remote(requests, adapter)
            try:
                with translated():
                    first = await anext(stream)
            except BaseException:
                _cancel(stream)
                raise
        try:
            yield first
            with translated():
                async for batch in stream:
                    yield batch
        finally:
            _cancel(stream)


class RemoteRetriever:
    """The retriever deployment."""

    def __init__(self, handle: Any) -> None:
        """Ask through `handle`."""
        self._handle = handle
        self.breaker = Breaker("retriever", counts=is_failure)

    async def search(
        self, version: ArtifactVersion | None, query: Query, inline: Sequence[Document], deadline: float
    ) -> SearchResult:
        """Return the best chunks of an index and of inline documents; see Searcher."""
        with self.breaker.guarding():
            found: SearchResult = await _cancelling(self._handle.search.remote(version, query, inline, deadline))
        return found

    async def embed(self, texts: Sequence[str], deadline: float) -> EmbeddingResult:
        """Return the vectors of texts; see Searcher."""
        with self.breaker.guarding():
            found: EmbeddingResult = await _cancelling(self._handle.embed.remote(texts, deadline))
        return found

    async def texts(self, token_ids: Sequence[Sequence[int]], deadline: float) -> list[str]:
        """Return the texts of the embedding model's tokens; see Searcher."""
        with self.breaker.guarding():
            found: list[str] = await _cancelling(self._handle.texts.remote(token_ids, deadline))
        return found

    async def rerank(self, question: str, texts: Sequence[str], deadline: float) -> tuple[list[float], int]:
        """Return how well each text answers a question; see Searcher."""
        with self.breaker.guarding():
            found: tuple[list[float], int] = await _cancelling(self._handle.rerank.remote(question, texts, deadline))
        return found


async def _cancelling(response: Any) -> Any:
    """Return what a replica answers; whoever stops waiting stops its work, too."""
    try:
        with translated():
            return await response
    except asyncio.CancelledError:
        _cancel(response)
        raise


def _cancel(response: Any) -> None:
    """Cancel what a replica does; a request that never reached one has failed already, and says so here once more."""
    with suppress(BackPressureError, DeploymentUnavailableError, RayActorError):
        response.cancel()


class RemoteController:
    """The AliasController; see Controller."""

    def __init__(self, handle: Any) -> None:
        """Ask through `handle`."""
        self._handle = handle

    async def table(self, kind: ArtifactKind, revision: int, asked: list[str]) -> RoutingTable:
        """Return the table when it has another revision, or after a second."""
        table: RoutingTable = await self._handle.table.remote(kind, revision, asked)
        return table

    async def keys(self, generation: int) -> AccessDocument | None:
        """See AliasController.keys."""
        found: AccessDocument | None = await self._handle.keys.remote(generation)
        return found

    async def look(self, kind: ArtifactKind, name: str) -> RoutingTable:
        """Read one name now, and return the table."""
        with translated():
            table: RoutingTable = await self._handle.look.remote(kind, name)
        return table

    async def inherit(self, kind: ArtifactKind, table: RoutingTable) -> None:
        """Let a new controller go on with the table of the one before it."""
        await self._handle.inherit.remote(kind, table)
