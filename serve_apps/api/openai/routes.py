"""OpenAI's API: `/v1/models` here, `/v1/chat/completions` and `/v1/completions` beside; adapters are model ids."""

from typing import Any

from fastapi import APIRouter, Depends, Request

from llama_platform.access.keys import sees
from llama_platform.artifacts.refs import BASE, PRODUCTION
from llama_platform.artifacts.repository import ArtifactVersion
from serve_apps.api.access import caller_of, require
from serve_apps.api.errors import openai_error_responses
from serve_apps.api.openai import chat, completions, embeddings, rerank, tokenize
from serve_apps.api.openai.rendering import resolve_model
from serve_apps.api.responses import context_of
from serve_apps.api.state import AppState, WithState

models = APIRouter(prefix="/v1")


@models.get("/models")
async def list_models(request: Request, state: WithState) -> dict[str, Any]:
    """List the base and every live alias of an adapter; the one that a bare name means is listed by that name."""
    caller, routed = caller_of(request), state.router.table("adapter").aliases
    live = sorted(key for key, route in routed.items() if route.targets and sees(caller, "adapter", key[0]))
    ids = [f"{BASE}:{name}" if alias == PRODUCTION else f"{BASE}:{name}@{alias}" for name, alias in live]
    listed = [_model(state, BASE), *(_model(state, model) for model in ids)]
    if state.searcher is not None:
        embedding = state.config.embedding.model
        listed.append({**_model(state, embedding), "root": embedding})
    return {"object": "list", "data": listed}


@models.get("/models/{model:path}", responses=openai_error_responses())
async def get_model(model: str, request: Request, state: WithState) -> dict[str, Any]:
    """Tell whether a model exists."""
    if state.searcher is not None and model == state.config.embedding.model:
        return {**_model(state, model), "root": model}
    return _model(state, model, await resolve_model(state, context_of(state, request, None), model))


def _model(state: AppState, model: str, version: ArtifactVersion | None = None) -> dict[str, Any]:
    facts = {"version": version.version, "digest": version.digest} if version else {}
    return {
        "id": model,
        "object": "model",
        "created": 0,
        "owned_by": "llama-platform",
        "root": state.config.base.model,
        **facts,
    }


routes = APIRouter()
routes.include_router(models, dependencies=[Depends(require(None))])
for part in (chat.routes, completions.routes, tokenize.routes):
    routes.include_router(part, dependencies=[Depends(require("generate"))])
for part in (embeddings.routes, rerank.routes):
    routes.include_router(part, dependencies=[Depends(require("embed"))])
