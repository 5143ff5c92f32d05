"""Sources: from a `/rag` request to the chunks that are shown to the model, and the prompt that shows them."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request

from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import InputError, NotFoundError, PlatformError
from llama_platform.inference.protocol import SamplingParams
from llama_platform.models.prompt import Message
from rag.documents.document import Document, Facts, check_document_id, clean_text
from rag.prompt import fit_prompt
from rag.search.retriever import Hit, Query
from serve_apps.api.middleware.access_log import record_of
from serve_apps.api.responses import split_key
from serve_apps.api.schemas import InlineDocument, RagRequest
from serve_apps.api.state import AppState
from serve_apps.generation.service import collect

REWRITE = (
    "Rewrite the last question so that it can be understood without the conversation. "
    "Answer with the question alone.\n\nConversation:\n{conversation}\n\nLast question: {question}"
)
REWRITE_TOKENS = 64
EARLIER_TURNS = 2
"""Of the user, that are searched for together with the last."""
EARLIER_CHARS = 300


@dataclass(frozen=True, slots=True)
class Sources:
    """What was found, and the prompt over it."""

    question: str
    """Self-contained."""
    hits: Sequence[Hit]
    """As they are numbered in the prompt; none where nothing was near enough."""
    prompt_ids: Sequence[int]
    """Empty where there is nothing to ask the model, or no model to be asked."""
    index: ArtifactVersion | None
    timings_ms: dict[str, float]
    begun: float
    """`time.perf_counter()` when the request came."""


async def find_sources(state: AppState, request: Request, body: RagRequest, deadline: float) -> Sources:
    """Return the sources of a request.

    Raises:
        InputError: a field does not fit, or not even one source fits into the prompt.
        NotFoundError: there is no such index or version.
    """
    begun_all = time.perf_counter()
    config, answering = state.config, state.answering
    *history, last = [turn.to_message() for turn in body.messages or ()] or [Message("user", body.question or "")]
    record_of(request).asked("\n".join(turn.content for turn in (*history, last)), config.log_prompts)
    inline = _inline(body.documents or [], state)
    name = body.index or (None if inline else config.index)
    if state.searcher is None or (name is None and not inline):
        raise NotFoundError("retrieval is switched off: the application's configuration names no index")
    version = await state.live.resolve("index", name, split_key(request, body.user)) if name else None
    timings: dict[str, float] = {}
    begun = time.perf_counter()
    searched = question = last.content
    if history:
        question, searched = await _standalone(state, request, history, last.content, deadline)
        timings["standalone_ms"] = _since(begun)
    begun = time.perf_counter()
    query = Query(searched, body.top_k, body.mode, body.filters)
    found = await state.searcher.search(version, query, inline, deadline)
    timings |= {"retrieve_ms": _since(begun), **found.timings_ms}
    own = {document.id for document in inline}
    enough = any(hit.score >= config.rag.min_score or hit.chunk.document in own for hit in found.hits)
    if not enough:
        return Sources(question, (), (), version, timings, begun_all)
    if config.rag.extracts and config.llama.min_replicas > 0 and not answering.replicas():
        return Sources(question, found.hits, (), version, timings, begun_all)
    begun = time.perf_counter()
    context = await answering.context_length(deadline)
    room = min(config.limits.max_rag_prompt_tokens, context - body.max_new_tokens)
    past = [] if question != last.content else history  # a question that was written anew needs no history
    prompt = await asyncio.to_thread(fit_prompt, question, found.hits, room, answering.template, past)
    if not prompt.hits:
        raise InputError(f"question: no source fits beside it into {room} tokens; ask for fewer max_new_tokens")
    timings["prompt_ms"] = _since(begun)
    return Sources(question, prompt.hits, prompt.prompt_ids, version, timings, begun_all)


async def _standalone(
    state: AppState, request: Request, history: Sequence[Message], question: str, deadline: float
) -> tuple[str, str]:
    """Return the question to be answered, and the text to be searched for."""
    if state.config.rag.standalone == "model":
        try:
            written = await _rewrite(state, request, history, question, deadline)
        except PlatformError:  # the search goes on with what there is; the answer itself may meet the same and say so
            written = ""
        if written:
            return written, written
    earlier = [turn.content[:EARLIER_CHARS] for turn in history if turn.role == "user"][-EARLIER_TURNS:]
    return question, "\n".join([question, *earlier])  # the question first: the end is what may be too long to be read


async def _rewrite(
    state: AppState, request: Request, history: Sequence[Message], question: str, deadline: float
) -> str:
    answering = state.answering
    speakers = {"user": "Human", "assistant": "Assistant", "system": "Note"}
    conversation = "\n".join(f"{speakers[turn.role]} said: {turn.content[:1000]}" for turn in history[-6:])
    asked = REWRITE.format(conversation=conversation, question=question)
    prompt = await asyncio.to_thread(answering.template.encode_prompt, [Message("user", asked)])
    sampling = SamplingParams(max_new_tokens=REWRITE_TOKENS, stop=("\n\n", *answering.template.stop_strings()))
    task = await answering.task(
        [prompt],
        lambda room: sampling,
        request_id=f"{request.state.request_id}-question",
        adapter=None,
        deadline=deadline,
    )
    (answer,) = await collect(answering.events(task), 1)
    return next((line.strip() for line in answer.text.splitlines() if line.strip()), "")


def _inline(given: Sequence[InlineDocument], state: AppState) -> list[Document]:
    limits = state.config.limits
    documents: list[Document] = []
    if len(given) > limits.max_documents:
        raise InputError(f"documents: {len(given)} of them, over the limit of {limits.max_documents}")
    if (length := sum(len(one.text) for one in given)) > limits.max_document_chars:
        raise InputError(f"documents: {length} characters together, over the limit of {limits.max_document_chars}")
    for place, one in enumerate(given):
        try:
            name = check_document_id(one.id) if one.id else f"document-{place + 1}"
        except InputError as error:
            raise InputError(f"documents.{place}.{error}") from error
        if any(document.id == name for document in documents):
            raise InputError(f"documents.{place}.id: '{name}' is another document's, too")
        digest = hashlib.sha256(one.text.encode("utf-8", "replace")).hexdigest()
        facts = Facts(title=clean_text(one.title) if one.title else None)
        documents.append(Document(name, clean_text(one.text), True, digest, facts))
    return documents


def _since(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1000, 2)
