"""Request guard: the outermost layer.

Knows every request's id, refuses bodies that are too large or not JSON, answers what nobody expected, and writes the
request log.
"""

import asyncio
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_apps.api.errors import describe, problem_of, respond
from serve_apps.api.middleware.access_log import Observer, RequestRecord
from serve_apps.api.schemas import Problem

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
BODY_TIMEOUT_S = 15
UPLOAD_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Uploads:
    """Where forms with files are taken, and from whom."""

    path: re.Pattern[str]
    max_bytes: int
    refusal: Callable[[str, str], Problem | None]
    """Of a header `Authorization` and a request id: why the body is not even read, or None."""


class RequestGuard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, uploads: Uploads, observer: Observer) -> None:
        """Guard `app`.

        Args:
            app: the next layer.
            max_body_bytes: bound on a request's body, whether or not its length was announced.
            uploads: the one kind of request that is not JSON.
            observer: is told of every request.
        """
        self._app, self._max_body_bytes, self._uploads, self._observer = app, max_body_bytes, uploads, observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        # Serve's proxy sets the id, the client's or a new one, and repeats it in the response.
        given = headers.get(b"x-request-id", b"")
        valid = REQUEST_ID.fullmatch(given) is not None
        request_id = given.decode() if valid else uuid.uuid4().hex
        trace = headers.get(b"traceparent", b"").decode("latin-1")
        record = RequestRecord(request_id, scope["method"], scope["path"], trace, self._observer)
        scope.setdefault("state", {}).update(request_id=request_id, record=record)
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            problem, body = await self._admit(scope, headers, receive, request_id, bool(given) and not valid)
            if problem is not None:
                record.failed(problem.code)
                await respond(problem, scope["path"])(scope, receive, watched)
            else:
                await self._app(scope, receive if body is None else _replayed(body, receive), watched)
        except Exception as error:  # whatever nobody expected: the client gets an answer, the log the reason
            if status:
                raise  # too late for another status: the connection is cut
            problem = describe(error, request_id)
            record.failed(problem.code)
            await respond(problem, scope["path"])(scope, receive, watched)
        finally:
            if (route := scope.get("route")) is not None:
                record.routed(route.path)
            record.close(status)

    async def _admit(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, request_id: str, bad_id: bool
    ) -> tuple[Problem | None, bytes | None]:
        if bad_id:
            detail = "X-Request-ID: 1 to 64 letters, digits, '.', '_' and '-' are allowed"
            return problem_of(400, "invalid_input", detail, request_id, "X-Request-ID"), None
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return None, None
        max_bytes, timeout_s, media_type = self._max_body_bytes, BODY_TIMEOUT_S, b"application/json"
        if self._uploads.path.fullmatch(scope["path"]):
            authorization = headers.get(b"authorization", b"").decode("latin-1")
            if (problem := self._uploads.refusal(authorization, request_id)) is not None:
                return problem, None
            max_bytes, timeout_s, media_type = self._uploads.max_bytes, UPLOAD_TIMEOUT_S, b"multipart/form-data"
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
            return None, b""
        if kind != media_type:
            wanted = "JSON" if media_type == b"application/json" else "a form with files"
            detail = f"send {wanted}, with the header Content-Type: {media_type.decode()}"
            return problem_of(415, "not_json", detail, request_id), None
        try:
            async with asyncio.timeout(timeout_s):
                return await _read(headers, receive, request_id, max_bytes)
        except TimeoutError:
            detail = f"the body did not arrive within {timeout_s} s"
            return problem_of(408, "body_too_slow", detail, request_id), None


async def _read(
    headers: dict[bytes, bytes], receive: Receive, request_id: str, max_bytes: int
) -> tuple[Problem | None, bytes]:
    body, more = bytearray(), True
    announced = headers.get(b"content-length", b"0")
    too_large = announced.isdigit() and int(announced) > max_bytes
    while more and not too_large:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        too_large = len(body) > max_bytes
    if too_large:
        detail = f"the body is over the limit of {max_bytes} bytes"
        return problem_of(413, "body_too_large", detail, request_id), b""
    return None, bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
