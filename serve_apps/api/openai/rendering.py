"""Rendering: what both of OpenAI's routes do with a prepared request, whole or as a stream."""

import json
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

from fastapi import Request
from fastapi.responses import Response

from llama_platform.artifacts.refs import BASE
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import InputError, NotFoundError
from llama_platform.inference.protocol import FinishEvent, TokenEvent
from serve_apps.api.errors import message_of, openai_error
from serve_apps.api.openai.schemas import OpenAIRequest
from serve_apps.api.responses import error_event
from serve_apps.api.sse import event_stream, message
from serve_apps.api.state import AppState
from serve_apps.generation.completion import Completion, gather
from serve_apps.generation.service import PreparedRequest, RequestContext

DONE = message("[DONE]")
CAPPED_HEADER = "X-Max-Tokens-Capped"
"""Holds the server's limit where a request asked for longer answers."""


class Form(Protocol):
    """Builds the response bodies and stream chunks of one OpenAI route."""

    def whole(self, answers: Sequence[Completion]) -> dict[str, Any]:
        """Return the response."""
        ...

    def begin(self, count: int) -> list[dict[str, Any]]:
        """Return the first chunks of `count` answers."""
        ...

    def piece(self, number: int, event: TokenEvent) -> dict[str, Any] | None:
        """Return the chunk of some tokens; None where nothing can be told of them yet."""
        ...

    def end(self, number: int, event: FinishEvent) -> dict[str, Any]:
        """Return the last chunk of an answer."""
        ...

    def usage(self, answers: Sequence[Completion]) -> dict[str, Any]:
        """Return the chunk with the usage."""
        ...


async def respond(
    state: AppState,
    request: Request,
    context: RequestContext,
    body: OpenAIRequest,
    prepared: PreparedRequest,
    form: Form,
) -> Response:
    """Return the response to a prepared request, or the stream of its chunks.

    Args:
        state: the application's collaborators.
        request: the HTTP request.
        context: id, split key and deadline of the request.
        body: validated body.
        prepared: what the engine is to generate.
        form: turns answers into the bodies and chunks of one route.
    """
    events = state.generation.stream(prepared, context)
    headers = {} if prepared.capped_tokens is None else {CAPPED_HEADER: str(prepared.capped_tokens)}
    if not body.stream:
        answers = await gather(events, len(prepared.requests))
        # Of many tokens with many alternatives this takes seconds: not in the event loop.
        text = await state.pools.compute(lambda: json.dumps(form.whole(answers), ensure_ascii=False))
        return Response(text, headers=headers, media_type="application/json")
    answers = [Completion() for _ in prepared.requests]

    async def messages() -> AsyncGenerator[str, None]:
        begun = False
        async for batch in events:
            if not begun:
                begun = True
                for first in form.begin(len(answers)):
                    yield message(first)
            for number, event in batch:
                answers[number].add(event)
                chunk = form.end(number, event) if isinstance(event, FinishEvent) else form.piece(number, event)
                if chunk is not None:
                    yield message(chunk)
        if body.include_usage():
            yield message(form.usage(answers))
        yield DONE

    failed = error_event(request, lambda problem: message(openai_error(problem)))
    response = await event_stream(messages(), failed, state.config.heartbeat_s)
    response.headers.update(headers)
    return response


async def resolve_model(state: AppState, context: RequestContext, model: str) -> ArtifactVersion | None:
    """Return the adapter that a model id names; None for the base.

    Raises:
        NotFoundError: there is no such model.
    """
    base, _, adapter = model.partition(":")
    if base not in (BASE, state.config.base.model) or (":" in model and not adapter):
        raise NotFoundError(f"model: there is no model '{model[:200]}'; /v1/models lists them")
    try:
        return await state.generation.resolve(adapter or None, context)
    except (InputError, NotFoundError) as error:
        raise NotFoundError(f"model: there is no model '{model[:200]}': {message_of(error)}") from error


def usage_of(answers: Sequence[Completion], each: int) -> dict[str, Any]:
    """Return the usage of a request; a prompt counts once, however many answers it has.

    Args:
        answers: `each` to every prompt.
        each: number of answers to a prompt.
    """
    ends = [answer.ended.usage for answer in answers]
    prompt, new = sum(end.prompt_tokens for end in ends[::each]), sum(end.completion_tokens for end in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": new,
        "total_tokens": prompt + new,
        "prompt_tokens_details": {"cached_tokens": sum(end.cached_tokens for end in ends[::each])},
    }


def frame_of(prefix: str, request_id: str, model: str, state: AppState) -> dict[str, Any]:
    """Return the fields that every chunk of a response repeats.

    Args:
        prefix: kind of the response in its id, such as `chatcmpl-`.
        request_id: number of the request.
        model: name of the model that answers, as the client wrote it.
        state: the application's collaborators.
    """
    return {
        "id": f"{prefix}{request_id}",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": state.generation.fingerprint[:16],
    }
