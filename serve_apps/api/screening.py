"""Screening: rules for what is asked and what is found, before the model reads it."""

from collections.abc import Sequence
from dataclasses import replace

from llama_platform.errors import BlockedError
from llama_platform.models.prompt import Message
from llama_platform.safety.chat import screen_messages
from llama_platform.safety.rules import ScreenRule
from llama_platform.safety.stream_filter import Screened, screen
from rag.search.query import Hit
from serve_apps.api.state import AppState
from serve_apps.generation.service import MODERATOR, RequestContext


async def screen_chat(state: AppState, context: RequestContext, messages: Sequence[Message]) -> list[Message]:
    """Return the turns of a chat as the model may read them.

    Raises:
        BlockedError: one holds what a rule does not allow, or a moderator does not let it pass.
    """
    screens, kept = context.screens, list(messages)
    if screens.input or screens.turns != "allow":
        chat = await state.pools.compute(screen_messages, messages, screens.input, screens.turns)
        _check(context, chat.results)
        kept = list(chat.messages)
    await _judge(state, context, [message.content for message in kept])
    return kept


async def screen_texts(state: AppState, context: RequestContext, texts: Sequence[str]) -> list[str]:
    """Return texts that are no chat, such as those to be embedded, as a model may read them; see `screen_chat`."""
    kept = list(texts)
    if context.screens.input:
        results = await _screened(state, texts, context.screens.input)
        _check(context, results)
        kept = [result.text for result in results]
    await _judge(state, context, kept)
    return kept


async def screen_hits(state: AppState, context: RequestContext, hits: Sequence[Hit]) -> list[Hit]:
    """Return what was found as the model may read it; what a rule blocks is left out."""
    rules = context.screens.sources
    if not rules or not hits:
        return list(hits)
    results = await _screened(state, [hit.chunk.text for hit in hits], rules)
    _note(context, "sources", results)
    return [
        hit if result.text == hit.chunk.text else replace(hit, chunk=replace(hit.chunk, text=result.text))
        for hit, result in zip(hits, results, strict=True)
        if result.blocked_by is None
    ]


async def screen_extract(state: AppState, context: RequestContext, text: str) -> str:
    """Return an answer that no model has written, such as sentences of sources, as it may be sent."""
    if not context.screens.output:
        return text
    (result,) = await _screened(state, [text], context.screens.output)
    _note(context, "output", [result])
    return result.text


def _check(context: RequestContext, results: Sequence[Screened]) -> None:
    _note(context, "input", results)
    if blocked := [result.blocked_by for result in results if result.blocked_by]:
        raise BlockedError(f"the request holds what the rule '{blocked[0]}' does not allow")


async def _judge(state: AppState, context: RequestContext, texts: Sequence[str]) -> None:
    moderator = state.generation.moderator
    if moderator is None or "input" not in state.config.safety.moderator.places:
        return
    if await moderator.is_harmful("\n".join(texts), context):
        context.record.screened("input", MODERATOR, "block")
        raise BlockedError("the request is judged as one that must not be answered")


async def _screened(state: AppState, texts: Sequence[str], rules: Sequence[ScreenRule]) -> list[Screened]:
    return await state.pools.compute(lambda: [screen(text, rules) for text in texts])


def _note(context: RequestContext, place: str, results: Sequence[Screened]) -> None:
    for result in results:
        context.record.noted(place, result.blocked_by, result.redacted, result.flagged)
