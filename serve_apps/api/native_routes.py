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
from llama_platform.inference.protocol import FinishEvent
from llama_platform.inference.requests import PredictRequest
from serve_apps.api.middleware.access_log import record_of
from serve_apps.api.responses import error_event, make_task, observed, response_metadata
from serve_apps.api.schemas import PredictResponse
from serve_apps.api.sse import event_stream, message
from serve_apps.api.state import AppState, WithState
from serve_apps.generation.service import NO_REPLICA, collect

routes = APIRouter()
VERSIONS = ("ray", "torch", "transformers", "peft")
HEALTH_KEYS = ("cuda_available", "memory", "running", "waiting", "failed_steps")


@routes.get("/health/live")
async def live() -> dict[str, str]:
    """Answer while the ingress runs."""
    return {"status": "ok"}


@routes.get("/health/ready")
async def ready(state: WithState) -> dict[str, str]:
    """Answer 200 if a replica is ready, or if none need be."""
    return {"status": _report(state)["status"]}


@routes.get("/health")
async def health(state: WithState) -> Response:
    """Tell status, model, CUDA and memory, as replicas last reported them."""
    try:
        return JSONResponse(_report(state))
    except UnavailableError:
        return JSONResponse({"status": "degraded", "model_loaded": False, "replicas": 0}, 503)


@routes.get("/model/info")
async def model_info(state: WithState) -> dict[str, Any]:
    """Tell base, adapters with versions and digests, prompt fingerprint, figures, and versions of the software."""
    adapters = await asyncio.to_thread(list_artifacts, state.repository, "adapter")
    return {
        "base": state.config.base.model,
        "prompt_style": state.answering.template.style,
        "prompt_fingerprint": state.answering.fingerprint,
        "default_adapter": state.config.adapter,
        "adapters": [adapter.to_json() for adapter in adapters],
        "replicas": state.answering.replicas(),
        "versions": {"llama-platform": __version__} | {n: importlib.metadata.version(n) for n in VERSIONS},
    }


@routes.post("/predict", response_model=PredictResponse)
async def predict(body: PredictRequest, request: Request, state: WithState) -> Any:
    """Answer a prompt or messages; with `stream`, as server-sent events."""
    answering, messages = state.answering, body.to_messages()
    deadline = answering.deadline()
    record_of(request).asked("\n".join(m.content for m in messages), state.config.log_prompts)
    prompt_ids = await asyncio.to_thread(answering.template.encode_prompt, messages)
    task = await make_task(state, request, body, prompt_ids, body.adapter or state.config.adapter, deadline)
    request_id = request.state.request_id
    if not body.stream:
        (answer,) = await collect(observed(state, request, task), 1)
        done = response_metadata(state, task.adapter, answer.ended)
        return JSONResponse({"id": request_id, "text": answer.text.strip(), **done})

    async def messages_of() -> AsyncGenerator[str, None]:
        async for batch in observed(state, request, task):
            for _, event in batch:
                if isinstance(event, FinishEvent):
                    yield message({"id": request_id, **response_metadata(state, task.adapter, event)}, "done")
                elif event.text:
                    yield message({"text": event.text}, "token")

    return await event_stream(messages_of(), error_event(request), state.config.heartbeat_s)


def _report(state: AppState) -> dict[str, Any]:
    replicas = state.answering.replicas()
    if not replicas:
        if state.config.llama.min_replicas == 0:
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
