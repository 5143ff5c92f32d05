"""The platform's own routes: health, model and `/predict`."""

import asyncio
import importlib.metadata
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from llama_platform import __version__
from llama_platform.artifacts.catalog import list_artifacts
from llama_platform.errors import UnavailableError
from llama_platform.inference.engine import FinishEvent
from llama_platform.inference.fields import PredictRequest
from serve_apps.answering import NO_REPLICA, collect
from serve_apps.api.generation import ending, failed_event, make_task, noted
from serve_apps.api.request_log import record_of
from serve_apps.api.schemas import PredictResponse
from serve_apps.api.service import Service, WithService
from serve_apps.api.sse import event_stream, message

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
    answering, messages = service.answering, body.to_messages()
    deadline = answering.deadline()
    record_of(request).asked("\n".join(m.content for m in messages), service.config.log_prompts)
    prompt_ids = await asyncio.to_thread(answering.template.encode_prompt, messages)
    task = await make_task(service, request, body, prompt_ids, body.adapter or service.config.adapter, deadline)
    request_id = request.state.request_id
    if not body.stream:
        (answer,) = await collect(noted(service, request, task), 1)
        done = ending(service, task.adapter, answer.ended)
        return JSONResponse({"id": request_id, "text": answer.text.strip(), **done})

    async def messages_of() -> AsyncGenerator[str, None]:
        async for batch in noted(service, request, task):
            for _, event in batch:
                if isinstance(event, FinishEvent):
                    yield message({"id": request_id, **ending(service, task.adapter, event)}, "done")
                elif event.text:
                    yield message({"text": event.text}, "token")

    return await event_stream(messages_of(), failed_event(request), service.config.heartbeat_s)


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
