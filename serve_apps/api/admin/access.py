"""Access: who may administer."""

import hmac

from fastapi import Request

from llama_platform.errors import ConfigError, ForbiddenError, InputError, UnauthorizedError
from serve_apps.api.state import AppState, WithState
from serve_apps.config import AppConfig


async def require_admin(request: Request, state: WithState) -> None:
    """Let administrators through.

    Raises:
        UnauthorizedError: the token is missing or wrong.
        ForbiddenError: administration is switched off.
        ConfigError: the file with the token cannot be read.
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
        raise UnauthorizedError("send the administrator's token as Authorization: Bearer …")


def check_token_file(state: AppState) -> None:
    """Check at start that an administrator's token can be read and is long enough to be one.

    Raises:
        InputError: it is not.
    """
    file = state.config.admin_token_file
    if file is not None and len(file.expanduser().read_text(encoding="utf-8").strip()) < 16:
        raise InputError(f"admin_token_file: {file} holds fewer than 16 characters")
