"""Access: who asks, and what they may do and see."""

import hmac
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Literal

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import Scope as ASGIScope

from llama_platform.access.keys import Caller, Scope, check_sees
from llama_platform.errors import ConfigError, ForbiddenError, InputError, PlatformError, UnauthorizedError
from serve_apps.api.state import AppState, WithState
from serve_apps.config import AppConfig, TenantConfig
from serve_apps.generation.allowance import Allowance
from serve_apps.routing.key_book import KEY_PREFIX

Check = Callable[[Request, AppState], Awaitable[None]]


def require(scope: Scope | None) -> Check:
    """Return the dependency of routes that a key with a scope may use; None lets every key through, uncounted.

    Requests of routes with a scope have `counts` in their state: they are traffic, also where nobody needs a key.
    """

    async def check(request: Request, state: WithState) -> None:
        if scope is not None:
            request.state.counts = True
        if state.keys is None:
            return
        caller = _caller(state, request.headers.get("authorization", ""))
        request.state.caller = caller
        if scope is not None:
            caller.require(scope)
            await _admit(request, state, caller)

    return check


async def require_admin(request: Request, state: WithState) -> None:
    """Let administrators through: with the token, or with a key that may read or write.

    Raises:
        UnauthorizedError: token or key are missing or wrong.
        ForbiddenError: administration is switched off, or the key may not do this.
        ConfigError: the file with the token cannot be read.
        NotFoundError: the path names what the key does not see.
    """
    reads = request.method in ("GET", "HEAD")
    caller = check_admin(state, request.headers.get("authorization", ""), "admin:read" if reads else "admin:write")
    request.state.caller = caller
    if (name := request.path_params.get("name")) is not None:
        check_sees(caller, "index" if request.url.path.startswith("/admin/indexes") else "adapter", name)


def check_admin(
    state: AppState, authorization: str, scope: Literal["admin:read", "admin:write"] = "admin:write"
) -> Caller | None:
    """Check a header `Authorization`; see `require_admin`. Return whose key it is; None of the token."""
    file, given = state.config.admin_token_file, _bearer(authorization)
    is_callers = given.startswith(KEY_PREFIX) or given.count(".") == 2  # a key, or a JWT
    if state.keys is not None and (is_callers or file is None):
        caller = _caller(state, authorization)
        caller.require(scope)
        return caller
    if file is None:
        raise ForbiddenError("administration is switched off here; the configuration's admin_token_file switches it on")
    try:
        token = file.expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"admin_token_file: cannot be read on this node: {error.strerror}") from error
    if not token or not hmac.compare_digest(given.encode(), token.encode()):
        raise UnauthorizedError("send the administrator's token as Authorization: Bearer …")
    return None


def check_token_file(config: AppConfig) -> None:
    """Check at start that an administrator's token can be read and is long enough to be one.

    Raises:
        InputError: it is not.
    """
    file = config.admin_token_file
    if file is not None and len(file.expanduser().read_text(encoding="utf-8").strip()) < 16:
        raise InputError(f"admin_token_file: {file} holds fewer than 16 characters")


def caller_of(request: Request) -> Caller | None:
    """Return whose key a request came with; None where no keys are asked for, and of the administrator's token."""
    caller: Caller | None = getattr(request.state, "caller", None)
    return caller


def allowance_of(request: Request) -> Allowance | None:
    """Return what a request may use; None for as much as there is."""
    allowance: Allowance | None = getattr(request.state, "allowance", None)
    return allowance


def known_caller(state: AppState, scope: ASGIScope) -> Caller | None:
    """Return who asks, before the route is known; None where no keys are asked for, or none that is taken came."""
    if state.keys is None:
        return None
    try:
        return _caller(state, Headers(scope=scope).get("authorization", ""))
    except PlatformError:  # its route says what is wrong
        return None


def tenant_of(state: AppState, scope: ASGIScope) -> str:
    """Return whose a request is; the empty text where nobody is known."""
    caller = known_caller(state, scope)
    return caller.tenant if caller is not None else ""


def name_of(state: AppState, scope: ASGIScope) -> str | None:
    """Return a name of who asks; None where keys are asked for and none that is taken came."""
    if state.keys is None:
        return "anybody"
    caller = known_caller(state, scope)
    return caller.key if caller is not None else None


async def _admit(request: Request, state: AppState, caller: Caller) -> None:
    """Count a request against the quotas of its key and tenant; what it reserves is settled when it has ended."""
    of_tenant = state.config.tenants.get(caller.tenant, TenantConfig()).limits
    allowance = Allowance(state.meter, caller, of_tenant, state.config.limits.cached_weight)
    closing: AsyncExitStack = request.state.closing
    closing.push_async_callback(allowance.close)
    request.state.allowance = allowance
    await allowance.admit()


def _caller(state: AppState, authorization: str) -> Caller:
    assert state.keys is not None
    given = _bearer(authorization)
    if not given:
        raise UnauthorizedError("send a key as Authorization: Bearer lp_…")
    return state.keys.caller(given)


def _bearer(authorization: str) -> str:
    scheme, _, given = authorization.partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""
