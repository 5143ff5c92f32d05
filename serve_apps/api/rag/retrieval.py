"""Sources: from a `/rag` request to the chunks that are shown to the model, and the prompt that shows them."""

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastapi import Request

from llama_platform.access.keys import check_sees
from llama_platform.artifacts.refs import parse_ref
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import (
    InputError,
    NotFoundError,
    OverloadedError,
    PlatformError,
    ReplicaLostError,
    UnavailableError,
)
from llama_platform.inference.protocol import SamplingParams
from llama_platform.models.prompt import Message
from rag.documents.blocks import markdown_blocks, plain_blocks
from rag.documents.document import Document, Facts, check_document_id, clean_text
from rag.lexical_index import terms
from rag.prompt import RagPrompt, fit_prompt
from rag.search.query import Hit, Query, SearchResult
from serve_apps.api.middleware.access_log import record_of
from serve_apps.api.rag.schemas import InlineDocument, RagRequest
from serve_apps.api.screening import screen_chat, screen_hits
from serve_apps.api.state import AppState
from serve_apps.config import LimitsConfig, RagConfig
from serve_apps.generation.completion import gather
from serve_apps.generation.service import RequestContext

REWRITE = (
    "Rewrite the last question so that it can be understood without the conversation. "
    "Answer with the question alone.\n\nConversation:\n{conversation}\n\nLast question: {question}"
)
REWRITE_TOKENS = 64
CODE = re.compile(r"(?=.*\d)(?=.*[a-z])[\w.+-]{4,}|[\d.-]{5,}")
"""A term that few texts hold, such as `a343` or `0x80070005`; years are none."""
LEAST_WORDS = 3
"""Of a question that says enough by itself, stop words left out."""
POINTING = re.compile(r"\b(?:it|its|they|them|their|this|that|these|those|he|she|him|his|her|ones?)\b", re.IGNORECASE)
"""Words that point at what was said before."""
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
    left_out: int = 0
    """Hits that did not fit into the prompt."""
    question_parts: int = 1
    """How many parts the question was embedded in."""
    retrieved: bool = True
    """Whether anybody has searched; else the model answers by itself."""
    coverage: float = 0.0
    """Share of the question's words that the best source holds."""


async def retrieve_context(state: AppState, request: Request, context: RequestContext, body: RagRequest) -> Sources:
    """Return the sources of a request, and the prompt that shows them to the model.

    Args:
        state: the application's collaborators.
        request: the HTTP request; its log record is filled.
        context: id, split key and deadline of the request.
        body: validated body.

    Raises:
        InputError: a field does not fit, or not even one source fits into the prompt.
        NotFoundError: there is no such index or version.
    """
    arrived, config, timings = time.perf_counter(), state.config, dict[str, float]()
    *history, last = [turn.to_message() for turn in body.messages or ()] or [Message("user", body.question or "")]
    record_of(request).asked("\n".join(turn.content for turn in (*history, last)), config.log_prompts)
    *history, last = await screen_chat(state, context, [*history, last])
    inline = await state.pools.compute(_inline, body.documents or [], config.limits)
    version = await _index(state, context, body.index or (None if inline else config.index), bool(inline))
    if version is not None:
        record_of(request).searched(version)
    begun = time.perf_counter()
    searched = question = last.content
    if history:
        question, searched = await _standalone(state, context, history, last.content)
        timings["standalone_ms"] = _since(begun)
    # A question that says enough by itself is judged by itself: what was said before would lift any score.
    judged = question if searched != question and _says_enough(question) else None
    query = Query(searched, body.top_k, body.mode, body.filters, judged, config.rag.dense_weight)
    try:
        found = await _search(state, context, version, query, inline, timings)
    except (UnavailableError, ReplicaLostError) as error:
        if config.rag.without_retriever == "refuse" or isinstance(error, OverloadedError):
            raise
        encode = state.generation.template.encode_prompt
        prompt_ids = await state.pools.compute(encode, [*history, last])
        return Sources(question, (), prompt_ids, version, timings, arrived, retrieved=False)
    found = replace(found, hits=await screen_hits(state, context, found.hits))
    near = await state.pools.compute(_near_enough, found, inline, config.rag, judged or searched)
    if not near:
        return Sources(question, (), (), version, timings, arrived, 0, found.question_parts, coverage=found.coverage)
    if config.rag.extracts and config.llama.min_replicas > 0 and not state.generation.replicas():
        return Sources(
            question, found.hits, (), version, timings, arrived, 0, found.question_parts, coverage=found.coverage
        )
    past = [] if question != last.content else history  # a rewritten question needs no history
    begun = time.perf_counter()
    prompt = await _fit(state, context, question, found.hits, past, body.max_new_tokens)
    timings["prompt_ms"] = _since(begun)
    left_out = len(found.hits) - len(prompt.hits)
    return Sources(
        question, prompt.hits, prompt.prompt_ids, version, timings, arrived, left_out, found.question_parts,
        coverage=found.coverage,
    )  # fmt: skip


async def _index(state: AppState, context: RequestContext, name: str | None, inline: bool) -> ArtifactVersion | None:
    if state.searcher is None or (name is None and not inline):
        raise NotFoundError("retrieval is switched off: the application's configuration names no index")
    if not name:
        return None
    check_sees(context.caller, "index", parse_ref(name).name)
    return await state.router.resolve("index", name, context.split_key)


async def _search(
    state: AppState,
    context: RequestContext,
    version: ArtifactVersion | None,
    query: Query,
    inline: Sequence[Document],
    timings: dict[str, float],
) -> SearchResult:
    assert state.searcher is not None
    begun = time.perf_counter()
    with context.record.stage("search"):
        found = await state.searcher.search(version, query, inline, context.deadline.at)
    timings |= {"retrieve_ms": _since(begun), **found.timings_ms}
    return found


def _says_enough(question: str) -> bool:
    """Return whether a question can be understood without what was said before it."""
    return len(terms([question])[0]) >= LEAST_WORDS and not POINTING.search(question)


def _near_enough(found: SearchResult, inline: Sequence[Document], config: RagConfig, searched: str) -> bool:
    """Return whether one of the hits may answer.

    It may by its score and by the words of the question that are found, or since it holds a number or code that is
    asked for.
    """
    hits, own = found.hits, {document.id for document in inline}
    if any(hit.chunk.document in own for hit in hits):
        return True
    if found.coverage >= config.min_coverage and any(hit.score >= config.min_score for hit in hits):
        return True
    codes = {term for term in terms([searched])[0] if CODE.fullmatch(term)}
    return bool(codes) and any(codes & set(terms([hit.chunk.text])[0]) for hit in hits)


async def _fit(
    state: AppState,
    context: RequestContext,
    question: str,
    hits: Sequence[Hit],
    history: Sequence[Message],
    max_new_tokens: int,
) -> RagPrompt:
    length = await state.generation.context_length(context.deadline)
    room = min(state.config.limits.max_rag_prompt_tokens, length - max_new_tokens)
    prompt = await state.pools.compute(fit_prompt, question, hits, room, state.generation.template, history)
    if not prompt.hits:
        raise InputError(f"question: no source fits beside it into {room} tokens; ask for fewer max_new_tokens")
    return prompt


async def _standalone(
    state: AppState, context: RequestContext, history: Sequence[Message], question: str
) -> tuple[str, str]:
    """Return the question to be answered, and the text to be searched for."""
    if state.config.rag.standalone == "model":
        try:
            written = await _rewrite(state, context, history, question)
        except PlatformError:  # the search goes on with what there is; the answer itself may meet the same and say so
            written = ""
        if written:
            return written, written
    earlier = [turn.content[:EARLIER_CHARS] for turn in history if turn.role == "user"][-EARLIER_TURNS:]
    return question, "\n".join([question, *earlier])  # the question first: the end is what may be too long to be read


async def _rewrite(state: AppState, context: RequestContext, history: Sequence[Message], question: str) -> str:
    service = state.generation
    speakers = {"user": "Human", "assistant": "Assistant", "system": "Note"}
    conversation = "\n".join(f"{speakers[turn.role]} said: {turn.content[:1000]}" for turn in history[-6:])
    asked = REWRITE.format(conversation=conversation, question=question)
    prompt = await state.pools.compute(service.template.encode_prompt, [Message("user", asked)])
    sampling = SamplingParams(max_new_tokens=REWRITE_TOKENS, stop=("\n\n", *service.template.stop_strings()))
    own = replace(context, request_id=f"{context.request_id}-question", internal=True)
    prepared = await service.prepare([prompt], lambda room: sampling, own, adapter=None)
    (answer,) = await gather(service.stream(prepared, own), 1)
    return next((line.strip() for line in answer.text.splitlines() if line.strip()), "")


def _inline(given: Sequence[InlineDocument], limits: LimitsConfig) -> list[Document]:
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
        text = clean_text(one.text)
        blocks = markdown_blocks(text) if one.format == "markdown" else plain_blocks(text)
        documents.append(Document(name, text, digest, facts, tuple(blocks)))
    return documents


def _since(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1000, 2)
