"""Access: who may administer."""

import hmac

from fastapi import HTTPException, Request

from llama_platform.errors import ConfigError, ForbiddenError, InputError, PlatformError
from serve_apps.api.errors import HTTP_CODES, describe, problem_of
from serve_apps.api.schemas import Problem
from serve_apps.api.state import AppState, WithState
from serve_apps.config import AppConfig


async def require_admin(request: Request, state: WithState) -> None:
    """Let administrators through.

    Raises:
        HTTPException: 401, the token is missing or wrong.
        ForbiddenError: administration is switched off.
    """
    check_admin(state.config, request.headers.get("authorization", ""))


def check_admin(config: AppConfig, authorization: str) -> None:
    """Check a header `Authorization`; see `require_admin`."""
    file = config.admin_token_file
    if file is None:
        raise ForbiddenError("administration is switched off here; the configuration's admin_token_file switches it on")
    try:
        token = file.expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"admin_token_file: cannot be read on this node: {error.strerror}") from error
    scheme, _, given = authorization.partition(" ")
    if not token or scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise HTTPException(401, "send the administrator's token as Authorization: Bearer …")


def refusal(config: AppConfig, authorization: str, request_id: str) -> Problem | None:
    """Return the problem of a request whose body must not even be read; None of an administrator's."""
    try:
        check_admin(config, authorization)
    except HTTPException as error:
        return problem_of(error.status_code, HTTP_CODES[error.status_code], str(error.detail), request_id)
    except PlatformError as error:
        return describe(error, request_id)
    return None


def check_token_file(state: AppState) -> None:
    """Check at start that an administrator's token can be read and is long enough to be one.

    Raises:
        InputError: it is not.
    """
    file = state.config.admin_token_file
    if file is not None and len(file.expanduser().read_text(encoding="utf-8").strip()) < 16:
        raise InputError(f"admin_token_file: {file} holds fewer than 16 characters")
