"""From exceptions to HTTP: one table, no internals; RFC 9457 bodies, and OpenAI's below `/v1`."""

import logging
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from llama_platform.errors import (
    BlockedError,
    BodyError,
    BodyTooLargeError,
    BodyTooSlowError,
    ConfigError,
    ConflictError,
    ContextLengthError,
    DeadlineError,
    ForbiddenError,
    InputError,
    IntegrityError,
    KeyReusedError,
    LimitError,
    MediaTypeError,
    NotFoundError,
    OverloadedError,
    PlatformError,
    ReplicaLostError,
    StorageError,
    UnauthorizedError,
    UnavailableError,
)
from serve_apps.api.schemas import LimitFacts, OpenAIError, Problem

log = logging.getLogger(__name__)

STATUSES: tuple[tuple[type[PlatformError], int], ...] = (
    (InputError, 400),
    (BlockedError, 422),
    (UnauthorizedError, 401),
    (ForbiddenError, 403),
    (NotFoundError, 404),
    (BodyTooSlowError, 408),
    (ConflictError, 409),
    (BodyTooLargeError, 413),
    (MediaTypeError, 415),
    (BodyError, 400),
    (IntegrityError, 422),
    (KeyReusedError, 422),
    (LimitError, 429),
    (OverloadedError, 503),
    (ReplicaLostError, 502),
    (StorageError, 503),
    (UnavailableError, 503),
    (DeadlineError, 504),
)
RETRY_AFTER_S = 5
HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}
"""Codes of what the framework itself refuses."""
OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
OPENAI_PATH = "/v1/"
_STORE_URI = re.compile(r"(?:s3|file)://\S*?/?([^/\s:]+)(?=[\s:,;]|$)")
"""Where something lies in the store, which is nobody's business but the administrator's."""
DOCUMENTED = (400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504)
"""Statuses of errors that a route may answer."""


def describe(error: BaseException, request_id: str) -> Problem:
    """Return the problem that a client may see of an error; what is not ours is logged and not shown."""
    if isinstance(error, PlatformError) and not isinstance(error, ConfigError):  # that is the server's own mistake
        for kind, status in STATUSES:
            if isinstance(error, kind):
                problem = problem_of(status, error.code, _public_text(error, request_id), request_id)
                if isinstance(error, LimitError):
                    limit = LimitFacts(quota=error.quota, limit=error.limit, of=error.of, resets_in_s=error.resets_in_s)
                    return problem.model_copy(update={"limit": limit, "openai_code": "rate_limit_exceeded"})
                if isinstance(error, ContextLengthError):
                    return problem.model_copy(update={"openai_code": "context_length_exceeded"})
                return problem
    log.error("request failed", exc_info=error, extra={"request": request_id})
    detail = "the request failed on our side; the log has it under this request id"
    return problem_of(500, "internal", detail, request_id)


def describe_invalid(error: RequestValidationError, request_id: str) -> Problem:
    """Return the problem of a request that does not fit its schema, with the field."""
    first = _most_telling(error.errors())
    if first["type"] == "json_invalid":
        detail = f"body: not valid JSON at character {first['loc'][-1]}: {first['ctx']['error']}"
        return problem_of(400, "invalid_input", detail, request_id, "body")
    # pydantic's own texts for @model_validator start with this
    reason = first["msg"].removeprefix("Value error, ")
    named = re.match(r"'(\w+)'", reason)
    within = first["loc"][1:] if first["loc"][:1] in (("body",), ("query",), ("path",)) else first["loc"]
    field = ".".join(str(part) for part in within if _is_field(part)) or (named[1] if named else "body")
    return problem_of(400, "invalid_input", f"{field}: {reason}", request_id, field)


def _most_telling(errors: Sequence[Any]) -> Any:
    """Return the first error; where a field may have several forms, one of a form that the value has."""
    alike = [error for error in errors if error["loc"][:2] == errors[0]["loc"][:2]]
    return next((error for error in alike if not error["type"].endswith("_type")), alike[0])


def _is_field(part: str | int) -> bool:
    # pydantic names the form of a field that may have several beside it, such as `list[TextPart]`.
    return isinstance(part, int) or (part.isidentifier() and part not in ("str", "int"))


def message_of(error: BaseException) -> str:
    """Return an error's own text, also where it crossed from a replica wrapped in Ray's traceback."""
    cause = getattr(error, "cause", None)
    return str(cause if isinstance(cause, PlatformError) else error)


def _public_text(error: PlatformError, request_id: str) -> str:
    if isinstance(error, StorageError):  # its text names buckets, keys and permissions
        log.error("store failed", exc_info=error, extra={"request": request_id})
        return "the store cannot be read right now; the log has the reason under this request id"
    return _STORE_URI.sub(r"the store's \1", message_of(error))


def openai_error(problem: Problem) -> dict[str, Any]:
    """Return a problem in OpenAI's form."""
    kind = OPENAI_TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
    return {
        "error": {
            "message": problem.detail,
            "type": kind,
            "param": problem.field,
            "code": problem.openai_code or problem.code,
        }
    }


def error_responses(statuses: Sequence[int] = DOCUMENTED) -> dict[int | str, dict[str, Any]]:
    """Return the description of errors, as RFC 9457 problems, for the `responses` of routes."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def openai_error_responses(statuses: Sequence[int] = DOCUMENTED) -> dict[int | str, dict[str, Any]]:
    """Return the description of errors in OpenAI's form, for the `responses` of routes below `/v1`."""
    return {status: {"description": HTTPStatus(status).phrase, "model": OpenAIError} for status in statuses}


def respond(problem: Problem, path: str = "", retry_after_s: int = RETRY_AFTER_S) -> JSONResponse:
    """Return the response for a problem of a request to `path`."""
    if problem.limit is not None:
        retry_after_s = problem.limit.resets_in_s
    headers = {"Retry-After": str(retry_after_s)} if problem.status in (429, 503) else {}
    if problem.status in (500, 504):  # OpenAI's clients would repeat work that was done and thrown away
        headers["x-should-retry"] = "false"
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if path.startswith(OPENAI_PATH):
        return JSONResponse(openai_error(problem), problem.status, headers)
    return JSONResponse(problem.body(), problem.status, headers, "application/problem+json")


def install(api: FastAPI) -> None:
    """Make `api` answer every expected error as a problem; RequestContextMiddleware answers the others."""

    def answer(request: Request, problem: Problem) -> JSONResponse:
        request.state.record.failed(problem.code)
        wait_s = request.app.state.retry_after() if problem.code == OverloadedError.code else RETRY_AFTER_S
        return respond(problem, request.url.path, wait_s)

    async def on_validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return answer(request, describe_invalid(error, request.state.request_id))

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = HTTP_CODES.get(error.status_code, "http_error")
        problem = problem_of(error.status_code, code, str(error.detail), request.state.request_id)
        response = answer(request, problem)
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(_methods_of(request))
        return response

    async def on_other(request: Request, error: Exception) -> JSONResponse:
        return answer(request, describe(error, request.state.request_id))

    api.add_exception_handler(RequestValidationError, on_validation)
    api.add_exception_handler(HTTPException, on_http)
    api.add_exception_handler(PlatformError, on_other)


def _methods_of(request: Request) -> list[str]:
    """Return the methods that a path has, over all its routes: starlette itself names those of the first."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    own = [route for route in routes if route.path == routes[0].path]
    return sorted({method for route in own for method in getattr(route, "methods", None) or ()})


def problem_of(status: int, code: str, detail: str, request_id: str, field: str | None = None) -> Problem:
    """Return a problem with the title of its status; a field is taken from `field: reason` where none is given.

    Args:
        status: HTTP status, 400 or above.
        code: stable word for programs, such as `not_found`.
        detail: what is wrong and what to do, for people.
        request_id: number of the request, as in the log.
        field: field of the request that is wrong, if it is one.
    """
    head = detail.partition(":")[0]
    if field is None and status in (400, 404) and head.replace("_", "").replace(".", "").isalnum():
        field = head
    return Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        request_id=request_id,
        field=field,
        openai_code=None,
    )
