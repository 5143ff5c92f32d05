"""The platform's own routes: health, model, `/predict` and `/rag`."""

import asyncio
import importlib.metadata
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from llama_platform import __version__
from llama_platform.artifacts.catalog import list_artifacts
from llama_platform.errors import InputError, NotFoundError, UnavailableError
from llama_platform.inference.engine import FinishEvent
from llama_platform.inference.fields import GenerationFields, PredictRequest
from llama_platform.models.prompt import Message
from rag.prompt import build_messages, fit_sources
from rag.retriever import Hit
from serve_apps.answering import NO_REPLICA, Task, collect
from serve_apps.api.errors import describe
from serve_apps.api.request_log import record_of
from serve_apps.api.schemas import PredictResponse, RagRequest, RagResponse
from serve_apps.api.service import Service, WithService
from serve_apps.api.sse import event_stream, message
from serve_apps.llama.coalesce import Numbered

routes = APIRouter()
VERSIONS = ("ray", "torch", "transformers", "peft")
HEALTH_KEYS = ("cuda_available", "memory", "running", "waiting", "failed_steps")


@routes.get("/health/live")
async def live() -> dict[str, str]:
    """Answer while the ingress runs."""
    return {"status": "ok"}


@routes.get("/health/ready")
async def ready(service: WithService) -> dict[str, str]:
    """Answer 200 if a replica is ready, or if none need be."""
    return {"status": _report(service)["status"]}


@routes.get("/health")
async def health(service: WithService) -> Response:
    """Tell status, model, CUDA and memory, as replicas last reported them."""
    try:
        return JSONResponse(_report(service))
    except UnavailableError:
        return JSONResponse({"status": "degraded", "model_loaded": False, "replicas": 0}, 503)


@routes.get("/model/info")
async def model_info(service: WithService) -> dict[str, Any]:
    """Tell base, adapters with versions and digests, prompt fingerprint, figures, and versions of the software."""
    adapters = await asyncio.to_thread(list_artifacts, service.repository, "adapter")
    return {
        "base": service.config.base.model,
        "prompt_style": service.answering.template.style,
        "prompt_fingerprint": service.answering.fingerprint,
        "default_adapter": service.config.adapter,
        "adapters": [adapter.to_json() for adapter in adapters],
        "replicas": service.answering.replicas(),
        "versions": {"llama-platform": __version__} | {n: importlib.metadata.version(n) for n in VERSIONS},
    }


@routes.post("/predict", response_model=PredictResponse)
async def predict(body: PredictRequest, request: Request, service: WithService) -> Any:
    """Answer a prompt or messages; with `stream`, as server-sent events."""
    deadline = service.answering.deadline()
    task = await _task(service, request, body, body.to_messages(), body.adapter or service.config.adapter, deadline)
    return await _respond(service, request, body, task, "text", {})


@routes.post("/rag", response_model=RagResponse)
async def rag(body: RagRequest, request: Request, service: WithService) -> Any:
    """Answer a question from the documents, with its sources."""
    deadline = service.answering.deadline()
    work = _rag_task(service, request, body, deadline)
    task, extra = await service.answering.within(deadline, work)
    return await _respond(service, request, body, task, "answer", extra)


async def _respond(
    service: Service, request: Request, body: GenerationFields, task: Task, text_key: str, extra: dict[str, Any]
) -> Any:
    request_id, record = request.state.request_id, record_of(request)
    if not body.stream:
        (answer,) = await collect(noted(service, request, task), 1)
        return JSONResponse(
            {"id": request_id, text_key: answer.text.strip(), **extra, **_done(service, task, answer.ended)}
        )

    async def messages() -> AsyncGenerator[str, None]:
        if extra:
            yield message({"sources": extra["sources"]}, "sources")
        async for batch in noted(service, request, task):
            for _, event in batch:
                if isinstance(event, FinishEvent):
                    yield message({"id": request_id, **extra, **_done(service, task, event)}, "done")
                elif event.text:
                    yield message({"text": event.text}, "token")

    def failed(error: Exception) -> str:
        problem = describe(error, request_id)
        record.failed(problem.code)
        return message(problem.body(), "error")

    return await event_stream(messages(), failed, service.config.heartbeat_s)


async def noted(service: Service, request: Request, task: Task) -> AsyncGenerator[list[Numbered], None]:
    """Yield the events of a task's answers, with what the request log wants to know noted."""
    record = record_of(request)
    async for batch in service.answering.events(task):
        for number, event in batch:
            record.note(number, event)
        yield batch


def _done(service: Service, task: Task, finish: FinishEvent) -> dict[str, Any]:
    usage, timings, adapter = finish.usage, finish.timings, task.adapter
    first = timings.first_token_s
    return {
        "finish_reason": finish.reason,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
        "model": {
            "base": service.config.base.model,
            "adapter": adapter.name if adapter else None,
            "version": adapter.version if adapter else None,
            "digest": adapter.digest if adapter else None,
            "prompt_fingerprint": service.answering.fingerprint,
        },
        "timings": {
            "queue_ms": round(timings.queue_s * 1000, 1),
            "first_token_ms": None if first is None else round(first * 1000, 1),
            "total_ms": round(timings.total_s * 1000, 1),
        },
    }


async def _task(
    service: Service,
    request: Request,
    body: GenerationFields,
    messages: list[Message],
    adapter_name: str | None,
    deadline: float,
) -> Task:
    answering, record = service.answering, record_of(request)
    record.asked("\n".join(m.content for m in messages), service.config.log_prompts)
    adapter = await answering.resolve(adapter_name, subject_of(request, body.user))
    record.answered_by(adapter)
    prompt_ids = await asyncio.to_thread(answering.template.encode_prompt, messages)
    stops = answering.template.stop_strings()
    return await answering.task(
        [prompt_ids],
        lambda room: body.sampling(stops),
        request_id=request.state.request_id,
        adapter=adapter,
        deadline=deadline,
    )


async def _rag_task(
    service: Service, request: Request, body: RagRequest, deadline: float
) -> tuple[Task, dict[str, Any]]:
    name = body.index or service.config.index
    if service.searcher is None or name is None:
        raise NotFoundError("retrieval is switched off: the application's configuration names no index")
    version = await service.live.resolve("index", name, subject_of(request, body.user))
    found = await service.searcher.search(version, body.question, body.top_k)
    template, limits = service.answering.template, service.config.limits
    context = await service.answering.context_length(deadline)
    room = min(limits.max_rag_prompt_tokens, context - body.max_new_tokens)

    def count(messages: list[Message]) -> int:
        return len(template.encode_prompt(messages))

    hits = await asyncio.to_thread(fit_sources, body.question, found, room, count)
    if found and not hits:
        raise InputError(f"question: no source fits beside it into {room} tokens; ask for fewer max_new_tokens")
    index = {"name": version.name, "version": version.version, "digest": version.digest}
    extra = {"sources": [_source(number, hit) for number, hit in enumerate(hits, 1)], "index": index}
    adapter = body.adapter or service.config.rag_adapter or service.config.adapter
    task = await _task(service, request, body, build_messages(body.question, hits), adapter, deadline)
    return task, extra


def _source(number: int, hit: Hit) -> dict[str, Any]:
    chunk = hit.chunk
    return {
        "n": number,
        "document": chunk.document,
        "title": chunk.title,
        "heading": chunk.heading,
        "chunk": hit.row,
        "score": hit.score,
        "text": chunk.text,
        "span": (chunk.start, chunk.end),
    }


def subject_of(request: Request, user: str | None) -> str:
    """Return whom a split should always give the same version: the user, else the session, else only this request."""
    session = request.headers.get("x-session-id", "")[:200]
    return user or session or str(request.state.request_id)


def _report(service: Service) -> dict[str, Any]:
    replicas = service.answering.replicas()
    if not replicas:
        if service.config.llama.min_replicas == 0:
            return {"status": "cold", "model_loaded": False, "replicas": 0}
        raise UnavailableError(NO_REPLICA)
    healthy = [facts for facts in replicas if facts["healthy"]]
    shown = (healthy or replicas)[0]
    return {
        "status": "ok" if len(healthy) == len(replicas) else "degraded",
        "model_loaded": True,
        "replicas": len(replicas),
        **{key: shown[key] for key in HEALTH_KEYS},
    }
