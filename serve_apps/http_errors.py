"""From exceptions to HTTP: one table, one body (RFC 9457), no internals."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from starlette.exceptions import HTTPException

from llama_platform.errors import (
    ConflictError,
    DeadlineError,
    InputError,
    IntegrityError,
    NotFoundError,
    PlatformError,
    StorageError,
    UnavailableError,
)
from serve_apps.schemas import Problem

log = logging.getLogger(__name__)

STATUSES: tuple[tuple[type[PlatformError], int], ...] = (
    (InputError, 400),
    (NotFoundError, 404),
    (ConflictError, 409),
    (IntegrityError, 422),
    (StorageError, 503),
    (UnavailableError, 503),
    (DeadlineError, 504),
)
RETRY_AFTER_S = 5
HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "not_json"}


def describe(error: BaseException, request_id: str) -> Problem:
    """Return the problem that a client may see of an error; what is not ours is logged and not shown."""
    if isinstance(error, PlatformError):
        for kind, status in STATUSES:
            if isinstance(error, kind):
                return _problem(status, error.code, _public_text(error, request_id), request_id)
    if isinstance(error, BackPressureError):
        return _problem(429, "overloaded", "too many requests are waiting; try again shortly", request_id)
    if isinstance(error, DeploymentUnavailableError):
        return _problem(503, "unavailable", "no replica can be started right now", request_id)
    if isinstance(error, RayActorError):
        log.error("replica lost", exc_info=error, extra={"request": request_id})
        return _problem(502, "replica_lost", "the replica was lost while it answered; ask again", request_id)
    log.error("request failed", exc_info=error, extra={"request": request_id})
    return _problem(500, "internal", "the request failed on our side; the log has it under this request id", request_id)


def message_of(error: BaseException) -> str:
    """Return an error's own text, also where it crossed from a replica wrapped in Ray's traceback."""
    cause = getattr(error, "cause", None)
    return str(cause if isinstance(cause, PlatformError) else error)


def _public_text(error: PlatformError, request_id: str) -> str:
    if isinstance(error, StorageError):  # its text names buckets, keys and permissions
        log.error("store failed", exc_info=error, extra={"request": request_id})
        return "the store cannot be read right now; the log has the reason under this request id"
    return message_of(error)


def respond(problem: Problem) -> JSONResponse:
    """Return the response for a problem."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if problem.status in (429, 503) else {}
    return JSONResponse(problem.body(), problem.status, headers, "application/problem+json")


def install(api: FastAPI) -> None:
    """Make `api` answer every error as a problem."""

    async def on_validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        broken = first["type"] == "json_invalid"
        field = "" if broken else ".".join(str(part) for part in first["loc"] if part != "body")
        field = field or "body"
        # pydantic's own texts for @model_validator start with this
        reason = first["msg"].removeprefix("Value error, ")
        if broken:
            reason = f"not valid JSON at character {first['loc'][-1]}: {first['ctx']['error']}"
        problem = _problem(400, "invalid_input", f"{field}: {reason}", request.state.request_id)
        return respond(problem.model_copy(update={"field": field}))

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = HTTP_CODES.get(error.status_code, "http_error")
        return respond(_problem(error.status_code, code, str(error.detail), request.state.request_id))

    async def on_other(request: Request, error: Exception) -> JSONResponse:
        return respond(describe(error, request.state.request_id))

    api.add_exception_handler(RequestValidationError, on_validation)
    api.add_exception_handler(HTTPException, on_http)
    for kind in (PlatformError, BackPressureError, DeploymentUnavailableError, Exception):
        api.add_exception_handler(kind, on_other)


def _problem(status: int, code: str, detail: str, request_id: str) -> Problem:
    return Problem(title=HTTPStatus(status).phrase, status=status, code=code, detail=detail, request_id=request_id)
