"""Health of the application, and what it serves."""

import importlib.metadata
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from llama_platform import __version__
from llama_platform.access.keys import Caller, sees
from llama_platform.artifacts.manifest import ArtifactKind
from llama_platform.artifacts.refs import parse_ref
from llama_platform.errors import PlatformError, UnauthorizedError, UnavailableError
from serve_apps.api.access import caller_of, check_admin, require
from serve_apps.api.errors import error_responses
from serve_apps.api.state import AppState, WithState
from serve_apps.generation.service import NO_REPLICA
from serve_apps.routing.replica_status import ReplicaStatus
from serve_apps.routing.table import KINDS, Route

routes = APIRouter()
VERSIONS = ("ray", "torch", "transformers", "peft")
HEALTH_KEYS = ("cuda_available", "memory", "running", "waiting", "failed_steps", "adapters_refused")
DEGRADED: dict[int | str, dict[str, Any]] = {503: {"description": "No replica is ready"}}


@routes.get("/", include_in_schema=False)
async def root() -> Response:
    """Lead to the console."""
    return RedirectResponse("console/")


@routes.get("/health/live")
async def live() -> dict[str, str]:
    """Answer while the ingress runs."""
    return {"status": "ok"}


@routes.get("/health/ready", responses=error_responses((503,)))
async def ready(state: WithState) -> dict[str, str]:
    """Answer 200 if a replica is ready, or if none need be, until the application begins to stop."""
    if state.drain.begun:
        raise UnavailableError("the application is stopping")
    return {"status": _report(state)["status"]}


@routes.get("/health", responses=DEGRADED)
async def health(request: Request, state: WithState) -> Response:
    """Tell status, model, CUDA and memory, as replicas last reported them; the status alone where keys are asked for.

    Without a replica this is a report all the same, not an error: 503 with the same keys.
    """
    status = 200
    try:
        report = _report(state)
    except UnavailableError:
        report, status = {"status": "degraded", "model_loaded": False, "replicas": 0}, 503
    try:
        await require(None)(request, state)
    except (UnauthorizedError, UnavailableError):
        report = {"status": report["status"]}
    with suppress(PlatformError):  # only the administrator is told where the store is
        check_admin(state, request.headers.get("authorization", ""), "admin:read")
        report["store"] = state.repository.store.root
    return JSONResponse(report, status)


@routes.get("/model/info", dependencies=[Depends(require(None))])
async def model_info(request: Request, state: WithState) -> dict[str, Any]:
    """Tell base, adapters with versions and digests, prompt fingerprint, figures, and versions of the software.

    Adapters are those that aliases name, from the table that this ingress routes by: the store is not asked.
    """
    caller = caller_of(request)
    default = state.config.adapter
    return {
        "base": state.config.base.model,
        "prompt_style": state.generation.template.style,
        "prompt_fingerprint": state.generation.fingerprint,
        "default_adapter": default if default and sees(caller, "adapter", parse_ref(default).name) else None,
        "adapters": _artifacts(_seen(state, "adapter", caller)),
        "indexes": _artifacts(_seen(state, "index", caller)),
        "replicas": [_replica(status, caller) for status in state.generation.replicas()],
        "versions": {"llama-platform": __version__} | {n: importlib.metadata.version(n) for n in VERSIONS},
    }


def _replica(status: ReplicaStatus, caller: Caller | None) -> dict[str, Any]:
    """Return what a replica told of itself; which adapters it holds is for those alone who may see all."""
    facts = asdict(status)
    if caller is not None and "admin:read" not in caller.scopes:
        facts = {name: value for name, value in facts.items() if name not in ("adapters_loaded", "adapters_refused")}
    return facts


def _seen(state: AppState, kind: ArtifactKind, caller: Caller | None) -> list[Route]:
    return [route for route in state.router.table(kind).aliases.values() if sees(caller, kind, route.name)]


def _artifacts(routed: list[Route]) -> list[dict[str, Any]]:
    shown = []
    for name in sorted({route.name for route in routed}):
        own = [route for route in routed if route.name == name]
        versions = {target.version.version: target.version for route in own for target in route.targets}
        aliases = {
            route.alias: [{"version": target.version, "weight": target.weight} for target in route.wanted]
            for route in own
        }
        shown.append(
            {
                "name": name,
                "aliases": aliases,
                "generation": max(route.generation for route in own),
                "versions": [
                    {"version": number, "digest": found.digest, "created": found.created}
                    for number, found in sorted(versions.items())
                ],
            }
        )
    return shown


def _report(state: AppState) -> dict[str, Any]:
    replicas = state.generation.replicas()
    if not replicas:
        if state.config.llama.min_replicas == 0:
            return {"status": "cold", "model_loaded": False, "replicas": 0}
        raise UnavailableError(NO_REPLICA)
    healthy = [status for status in replicas if status.healthy]
    shown = (healthy or replicas)[0]
    readable = all(state.router.table(kind).store_problem is None for kind in KINDS)
    closed = all(breaker.state == "closed" for breaker in state.breakers)
    return {
        "status": "ok" if len(healthy) == len(replicas) and readable and closed else "degraded",
        "store_readable": readable,
        "model_loaded": True,
        "replicas": len(replicas),
        "breakers": {breaker.name: breaker.state for breaker in state.breakers},
        **{key: getattr(shown, key) for key in HEALTH_KEYS},
    }
