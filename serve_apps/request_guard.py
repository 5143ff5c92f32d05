"""Request guard: the outermost layer. Knows every request's id, and refuses bodies that are too large or not JSON."""

import asyncio
import re
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_apps.http_errors import respond
from serve_apps.schemas import Problem

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
BODY_TIMEOUT_S = 15


class RequestGuard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        """Guard `app`.

        Args:
            app: the next layer.
            max_body_bytes: bound on a request's body, whether or not its length was announced.
        """
        self._app, self._max_body_bytes = app, max_body_bytes

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
        scope.setdefault("state", {})["request_id"] = request_id
        problem: Problem | None = None
        body: bytes | None = None
        if given and not valid:
            detail = "X-Request-ID: 1 to 64 letters, digits, '.', '_' and '-' are allowed"
            problem = _problem("Bad Request", 400, "invalid_input", detail, request_id)
        elif scope["method"] in ("POST", "PUT", "PATCH"):
            problem, body = await self._read_in_time(headers, receive, request_id)
        if problem is not None:
            await respond(problem)(scope, receive, send)
            return
        await self._app(scope, receive if body is None else _replayed(body, receive), send)

    async def _read_in_time(
        self, headers: dict[bytes, bytes], receive: Receive, request_id: str
    ) -> tuple[Problem | None, bytes]:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await self._read(headers, receive, request_id)
        except TimeoutError:
            detail = f"the body did not arrive within {BODY_TIMEOUT_S} s"
            return _problem("Request Timeout", 408, "body_too_slow", detail, request_id), b""

    async def _read(
        self, headers: dict[bytes, bytes], receive: Receive, request_id: str
    ) -> tuple[Problem | None, bytes]:
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if kind != b"application/json":
            detail = "send JSON, with the header Content-Type: application/json"
            return _problem("Unsupported Media Type", 415, "not_json", detail, request_id), b""
        body, more = b"", True
        announced = headers.get(b"content-length", b"0")
        too_large = announced.isdigit() and int(announced) > self._max_body_bytes
        while more and not too_large:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            too_large = len(body) > self._max_body_bytes
        if too_large:
            detail = f"the body is over the limit of {self._max_body_bytes} bytes"
            return _problem("Content Too Large", 413, "body_too_large", detail, request_id), b""
        return None, body


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _problem(title: str, status: int, code: str, detail: str, request_id: str) -> Problem:
    return Problem(title=title, status=status, code=code, detail=detail, request_id=request_id)
