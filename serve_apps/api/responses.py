"""Generation: what the platform's own routes share on the way from a checked body to a response."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from fastapi import Request

from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.inference.protocol import FinishEvent
from llama_platform.inference.requests import SamplingFields
from serve_apps.api.errors import describe
from serve_apps.api.middleware.access_log import record_of
from serve_apps.api.sse import message
from serve_apps.api.state import AppState
from serve_apps.generation.service import Task
from serve_apps.llama.stream_batching import IndexedEvent


def split_key(request: Request, user: str | None) -> str:
    """Return whom a split should always give the same version: the user, else the session, else only this request."""
    session = request.headers.get("x-session-id", "")[:200]
    return user or session or str(request.state.request_id)


async def make_task(
    state: AppState,
    request: Request,
    body: SamplingFields,
    prompt_ids: Sequence[int],
    adapter_name: str | None,
    deadline: float,
) -> Task:
    """Return the task of answering a prompt.

    Raises:
        InputError: it is too long, or its answer may be.
        NotFoundError: there is no such adapter.
    """
    answering = state.answering
    adapter = await answering.resolve(adapter_name, split_key(request, body.user))
    record_of(request).answered_by(adapter)
    stops = answering.template.stop_strings()
    return await answering.task(
        [prompt_ids],
        lambda room: body.sampling(stops),
        request_id=request.state.request_id,
        adapter=adapter,
        deadline=deadline,
    )


async def observed(state: AppState, request: Request, task: Task) -> AsyncGenerator[list[IndexedEvent], None]:
    """Yield the events of a task's answers, with what the request log wants to know observed."""
    record = record_of(request)
    async for batch in state.answering.events(task):
        for number, event in batch:
            record.note(number, event)
        yield batch


def error_event(request: Request) -> Callable[[Exception], str]:
    """Return what makes the last event of a stream that has failed."""

    def failed(error: Exception) -> str:
        problem = describe(error, request.state.request_id)
        record_of(request).failed(problem.code)
        return message(problem.body(), "error")

    return failed


def response_metadata(state: AppState, adapter: ArtifactVersion | None, finish: FinishEvent) -> dict[str, Any]:
    """Return what a response says of how its answer came about."""
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
    """Return the tokens of a request."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def model_of(state: AppState, adapter: ArtifactVersion | None) -> dict[str, Any]:
    """Return what answers."""
    return {
        "base": state.config.base.model,
        "adapter": adapter.name if adapter else None,
        "version": adapter.version if adapter else None,
        "digest": adapter.digest if adapter else None,
        "prompt_fingerprint": state.answering.fingerprint,
    }
