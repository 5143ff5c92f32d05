"""`GET /me`: what whoever asks may do here, so that a program offers nothing else."""

from typing import Any, Literal

from fastapi import APIRouter, Depends, Request

from llama_platform.access.keys import SCOPES
from llama_platform.errors import PlatformError
from serve_apps.api.access import caller_of, check_admin, require
from serve_apps.api.errors import error_responses
from serve_apps.api.state import AppState, WithState

routes = APIRouter()


async def _known(request: Request, state: WithState) -> None:
    """Let keys through, and the administrator's token, which is no key."""
    if _administers(state, request) == "nothing":
        await require(None)(request, state)


@routes.get("/me", responses=error_responses(), dependencies=[Depends(_known)])
async def me(request: Request, state: WithState) -> dict[str, Any]:
    """Tell the name and tenant of a key, its scopes, what it may administer, and what this application offers."""
    administers, config = _administers(state, request), state.config
    caller = caller_of(request)
    if caller is not None:
        scopes = [scope for scope in caller.scopes if not scope.startswith("admin")]
    else:
        scopes = [] if state.keys is not None else [scope for scope in SCOPES if not scope.startswith("admin")]
    return {
        "key": caller.key if caller is not None else None,
        "tenant": caller.tenant if caller is not None else None,
        "scopes": scopes,
        "administers": administers,
        "keys_are_asked_for": state.keys is not None,
        "offers": {
            "rag": state.searcher is not None,
            "feedback": config.feedback.enabled and state.conversations is not None,
            "index": config.index,
            "adapter": config.adapter,
        },
    }


def _administers(state: AppState, request: Request) -> Literal["nothing", "reads", "writes"]:
    authorization = request.headers.get("authorization", "")
    for scope, name in (("admin:write", "writes"), ("admin:read", "reads")):
        try:
            request.state.caller = check_admin(state, authorization, scope)  # type: ignore[arg-type]
        except PlatformError:
            continue
        return name  # type: ignore[return-value]
    return "nothing"
