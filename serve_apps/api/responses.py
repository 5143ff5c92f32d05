"""Responses: what the families of routes share on the way from a checked body to a response."""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Request

from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.inference.protocol import FinishEvent
from llama_platform.inference.requests import SamplingFields
from serve_apps.api.access import allowance_of, caller_of
from serve_apps.api.errors import describe
from serve_apps.api.middleware.access_log import record_of
from serve_apps.api.schemas import Problem
from serve_apps.api.sse import message
from serve_apps.api.state import AppState
from serve_apps.generation.service import PreparedRequest, RequestContext


def context_of(state: AppState, request: Request, user: str | None) -> RequestContext:
    """Return the context in which an HTTP request makes the model generate.

    Args:
        state: the application's collaborators.
        request: the HTTP request.
        user: the body's `user`. It decides the side of a split; else the session does, else every request is alone.
    """
    session = request.headers.get("x-session-id", "")[:200]
    request_id, caller = str(request.state.request_id), caller_of(request)
    return RequestContext(
        request_id,
        user or session or request_id,
        request.state.deadline,
        record_of(request),
        caller=caller,
        allowance=allowance_of(request),
        screens=state.safety.screens(caller.tenant if caller is not None else ""),
    )


async def prepare_one(
    state: AppState,
    context: RequestContext,
    body: SamplingFields,
    prompt_ids: Sequence[int],
    adapter_name: str | None,
) -> PreparedRequest:
    """Return the request to answer one prompt.

    Args:
        state: the application's collaborators.
        context: id, split key and deadline of the request.
        body: sampling fields of the request.
        prompt_ids: token ids of the prompt.
        adapter_name: `name`, `name@alias`, `name@3` or `base`; None for the application's own.

    Raises:
        InputError: it is too long, or its answer may be.
        NotFoundError: there is no such adapter.
    """
    service = state.generation
    adapter = await service.resolve(adapter_name, context)
    stops = service.template.stop_strings()
    return await service.prepare([prompt_ids], lambda room: body.sampling(stops), context, adapter=adapter)


def error_event(request: Request, form: Callable[[Problem], str] | None = None) -> Callable[[Exception], str]:
    """Return the function that makes the last event of a stream that has failed.

    Args:
        request: the HTTP request.
        form: makes the event of a problem; None for an `error` event with the problem's own body.
    """

    def failed(error: Exception) -> str:
        problem = describe(error, request.state.request_id)
        record_of(request).failed(problem.code)
        return message(problem.body(), "error") if form is None else form(problem)

    return failed


def response_metadata(state: AppState, adapter: ArtifactVersion | None, finish: FinishEvent) -> dict[str, Any]:
    """Return the fields that end every response: finish reason, usage, model and timings."""
    usage, timings = finish.usage, finish.timings
    first = timings.first_token_s
    return {
        "finish_reason": finish.reason,
        "usage": usage_of(usage.prompt_tokens, usage.completion_tokens),
        "model": model_of(state, adapter),
        "timings": {
            "queue_ms": round(timings.queue_s * 1000, 1),
            "first_token_ms": None if first is None else round(first * 1000, 1),
            "total_ms": round(timings.total_s * 1000, 1),
        },
    }


def usage_of(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return the `usage` of a response."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def model_of(state: AppState, adapter: ArtifactVersion | None) -> dict[str, Any]:
    """Return the `model` of a response: base, and adapter if one answers."""
    return {
        "base": state.config.base.model,
        "adapter": adapter.name if adapter else None,
        "version": adapter.version if adapter else None,
        "digest": adapter.digest if adapter else None,
        "prompt_fingerprint": state.generation.fingerprint,
    }
