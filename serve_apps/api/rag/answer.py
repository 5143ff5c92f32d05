"""RagAnswer: an answer from the documents as it comes together, with its checked citations."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from llama_platform.errors import EngineError, OverloadedError, PlatformError, ReplicaLostError, UnavailableError
from llama_platform.inference.protocol import FinishEvent, Timings, Usage
from rag.citations import extracts, is_beside
from rag.claim_checker import ClaimChecker
from rag.search.query import Hit
from serve_apps.api.rag.retrieval import Sources
from serve_apps.api.rag.schemas import Degraded, RagRequest
from serve_apps.api.responses import prepare_one, response_metadata
from serve_apps.api.screening import screen_extract
from serve_apps.api.sse import message
from serve_apps.api.state import AppState
from serve_apps.generation.service import NO_REPLICA, PreparedRequest, RequestContext

REFUSAL_S = 0.3
"""How long a stream waits for a refusal before it begins with the sources."""


class RagAnswer:
    """One answer as it comes together: from the model, or without it where there is nothing to ask or nobody to."""

    def __init__(self, state: AppState, context: RequestContext, sources: Sources) -> None:
        """Begin with the sources."""
        self._state, self._context, self._sources = state, context, sources
        self._chunks = [hit.chunk for hit in sources.hits]
        self._checker = ClaimChecker(self._chunks, hold=state.config.rag.hold_sentences)
        self._grounded: float | None = None
        self._prepared: PreparedRequest | None = None
        self._finish = FinishEvent("stop", Usage(0, 0), Timings(0.0, None, 0.0))
        self._degraded: Degraded | None = None if sources.retrieved else "no_retriever"

    async def ask(self, body: RagRequest) -> None:
        """Prepare to ask the model, so that what it would refuse is refused before anything is sent.

        Raises:
            InputError: the answer may be too long.
            NotFoundError: there is no such adapter.
        """
        config = self._state.config
        adapter = body.adapter or config.rag_adapter or config.adapter
        self._prepared = await prepare_one(self._state, self._context, body, self._sources.prompt_ids, adapter)

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._checker.text.strip()

    async def pieces(self) -> AsyncGenerator[str, None]:
        """Yield the text of the answer in pieces.

        Raises:
            PlatformError: a replica refuses or fails, and extracts are no answer.
        """
        if not self._sources.hits and self._sources.retrieved:
            yield self._checker.feed(self._state.config.rag.not_found) + self._checker.finish()
            return
        config = self._state.config.rag
        try:
            async with aclosing(self._generated()) as pieces:
                async for piece in pieces:
                    if not config.min_grounded or not self._sources.retrieved:
                        yield piece
        except (UnavailableError, ReplicaLostError, EngineError) as error:
            yield await self._instead(error)
            return
        if not self._sources.retrieved:
            return
        if self._finish.reason == "content_filter":  # what is left of it is no answer to be judged
            if config.min_grounded:
                yield self._checker.text
            return
        self._grounded = self._checker.grounded()
        self._context.record.supported(self._grounded)
        if config.min_grounded:
            yield await self._settled(self._grounded)

    async def _instead(self, error: PlatformError) -> str:
        """Return what is answered where the model cannot.

        Raises:
            PlatformError: the same error, where extracts are no answer.
        """
        if isinstance(error, EngineError | ReplicaLostError):
            self._context.record.model_failed()
        config = self._state.config.rag
        waits = isinstance(error, OverloadedError)  # the model works, and can be asked again
        shown = self._checker.text and not config.min_grounded
        if waits or not config.extracts or shown or not self._sources.retrieved:
            raise error
        return await self._without_model("no_model")

    async def _settled(self, grounded: float) -> str:
        """Return a whole answer, or what stands in for it where it is not grounded or beside the question."""
        config = self._state.config.rag
        if grounded < config.min_grounded:
            return await self._without_model("ungrounded")
        if config.extracts and await self._state.pools.compute(self._is_beside):
            return await self._without_model("beside_the_question")
        return self._checker.text

    def _is_beside(self) -> bool:
        """Return whether the answer is about something else, true as it may be."""
        question = self._sources.question
        return is_beside(self._checker.text, extracts(self._chunks, question), question)

    async def _without_model(self, why: Degraded) -> str:
        """Make sentences of the sources the answer, or that it is not in the documents, and return it."""
        config = self._state.config.rag
        self._checker = ClaimChecker(self._chunks if config.extracts else [])
        self._degraded, self._grounded = why, 1.0 if config.extracts else None
        text = config.not_found
        if config.extracts:
            text = await self._state.pools.compute(extracts, self._chunks, self._sources.question)
            text = await screen_extract(self._state, self._context, text)
        return await self._state.pools.compute(lambda: self._checker.feed(text) + self._checker.finish())

    async def events(self) -> AsyncGenerator[str, None]:
        """Yield the answer as server-sent events."""
        async with aclosing(self.pieces()) as pieces:
            first = asyncio.ensure_future(anext(pieces))
            try:
                # What is refused at once has a status of its own; a slow model does not hide the sources.
                await asyncio.wait((first,), timeout=REFUSAL_S)
                if first.done():
                    first.result()
                yield message({"sources": self._listed()}, "sources")
                if piece := await first:
                    yield message({"text": piece}, "token")
            finally:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)  # a generator that runs cannot be closed
            async for piece in pieces:
                if piece:
                    yield message({"text": piece}, "token")
        yield message(self.whole(), "done")

    def whole(self) -> dict[str, Any]:
        """Return the response, without the answer's text."""
        done = response_metadata(self._state, self._prepared.adapter if self._prepared else None, self._finish)
        index = self._sources.index
        return {
            "id": self._context.request_id,
            "question": self._sources.question,
            "in_documents": bool(self._sources.hits),
            "degraded": self._degraded is not None,
            "degraded_because": self._degraded,
            "retrieval": "ok" if self._sources.retrieved else "unavailable",
            "grounded": self._grounded,
            "sources": self._listed(),
            "sources_folded": sum(len(hit.same) for hit in self._sources.hits),
            "sources_left_out": self._sources.left_out,
            "question_parts": self._sources.question_parts,
            "coverage": self._sources.coverage,
            "claims": [asdict(claim) for claim in self._checker.claims],
            "citations": [asdict(citation) for citation in self._checker.citations],
            "citations_removed": self._checker.removed,
            "index": {"name": index.name, "version": index.version, "digest": index.digest} if index else None,
            **done,
            "timings": {
                **done["timings"],
                **self._sources.timings_ms,
                "generate_ms": done["timings"]["total_ms"],
                "total_ms": round((time.perf_counter() - self._sources.begun) * 1000, 1),
            },
        }

    async def _generated(self) -> AsyncGenerator[str, None]:
        if self._prepared is None:
            raise UnavailableError(NO_REPLICA)
        async with aclosing(self._state.generation.stream(self._prepared, self._context)) as batches:
            async for batch in batches:
                for _, event in batch:
                    # Judging many sources takes milliseconds: not in the event loop.
                    if isinstance(event, FinishEvent):
                        self._finish = event
                        yield await self._state.pools.compute(self._checker.finish)
                    else:
                        yield await self._state.pools.compute(self._checker.feed, event.text)

    def _listed(self) -> list[dict[str, Any]]:
        return [_source(number, hit) for number, hit in enumerate(self._sources.hits, 1)]


def _source(number: int, hit: Hit) -> dict[str, Any]:
    chunk = hit.chunk
    return {
        "n": number,
        "document": chunk.document,
        "title": chunk.title,
        "heading": chunk.heading,
        "page": chunk.page,
        "chunk": hit.row,
        "score": hit.score,
        "text": chunk.text,
        "span": (chunk.start, chunk.end),
        "tags": chunk.tags,
        "date": chunk.date,
        "also": [
            {"document": one.document, "heading": one.heading, "page": one.page, "span": (one.start, one.end)}
            for one in hit.same
        ],
    }
