"""`GET /me`: what whoever asks may do here, so that a program offers nothing else."""

from typing import Any, Literal

from fastapi import APIRouter, Depends, Request

from llama_platform.access.keys import SCOPES, Caller, sees
from llama_platform.artifacts.manifest import ArtifactKind
from llama_platform.artifacts.refs import parse_ref
from llama_platform.errors import ConfigError, PlatformError
from serve_apps.api.access import caller_of, check_admin, require
from serve_apps.api.errors import error_responses
from serve_apps.api.state import AppState, WithState

routes = APIRouter()
Given = Literal["key", "token", "nothing", "unknown"]


async def _known(request: Request, state: WithState) -> None:
    """Let keys through, and the administrator's token, which is no key."""
    if _administers(state, request) == "nothing":
        await require(None)(request, state)


@routes.get("/me", responses=error_responses(), dependencies=[Depends(_known)])
async def me(request: Request, state: WithState) -> dict[str, Any]:
    """Tell the name and tenant of a key, its scopes, what it may administer, and what this application offers.

    `given` says what came with the request: a `key`, the administrator's `token`, `nothing`, or something `unknown`
    where nobody asks for a key.
    """
    administers, config = _administers(state, request), state.config
    caller = caller_of(request)
    given = request.headers.get("authorization", "")
    if caller is not None:
        scopes = [scope for scope in caller.scopes if not scope.startswith("admin")]
    else:
        scopes = [] if state.keys is not None else [scope for scope in SCOPES if not scope.startswith("admin")]
    return {
        "key": caller.key if caller is not None else None,
        "tenant": caller.tenant if caller is not None else None,
        "scopes": scopes,
        "administers": administers,
        "given": _given(caller, administers, given),
        "gives": list(caller.scopes) if caller is not None else None,
        "keys_are_asked_for": state.keys is not None,
        "offers": {
            "rag": state.searcher is not None,
            "feedback": config.feedback.enabled and state.conversations is not None,
            "index": config.index if _sees(caller, "index", config.index) else None,
            "adapter": config.adapter if _sees(caller, "adapter", config.adapter) else None,
        },
    }


def _administers(state: AppState, request: Request) -> Literal["nothing", "reads", "writes"]:
    """Return what whoever asks may do below `/admin`; who may not read is shown nothing to write, either."""
    authorization = request.headers.get("authorization", "")
    try:
        request.state.caller = check_admin(state, authorization, "admin:read")
    except ConfigError:  # the administrator's token cannot be checked on this node: that is worth an error
        raise
    except PlatformError:
        return "nothing"
    try:
        check_admin(state, authorization, "admin:write")
    except PlatformError:
        return "reads"
    return "writes"


def _given(
    caller: Caller | None, administers: str, authorization: str
) -> Literal["key", "token", "nothing", "unknown"]:
    if caller is not None:
        return "key"
    if administers != "nothing":
        return "token"
    return "unknown" if authorization else "nothing"


def _sees(caller: Caller | None, kind: ArtifactKind, ref: str | None) -> bool:
    return ref is not None and sees(caller, kind, parse_ref(ref).name)
