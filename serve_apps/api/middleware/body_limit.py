"""Body limit: refuses bodies that are too large, too slow or of another kind than a route takes."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llama_platform.errors import OverloadedError
from serve_apps.api.errors import problem_of, respond
from serve_apps.api.schemas import Problem

BODY_TIMEOUT_S = 15
UPLOAD_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Uploads:
    """Where forms with files are taken, and from whom."""

    path: re.Pattern[str]
    max_bytes: int
    refusal: Callable[[str, str], Problem | None]
    """Returns, of a header `Authorization` and a request id, why the body is not even read, or None."""


class BodyLimit:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, uploads: Uploads, max_reading: int = 512) -> None:
        """Guard `app`.

        Args:
            app: the next layer.
            max_body_bytes: bound on a request's body, whether or not its length was announced.
            uploads: the one kind of request that is not JSON.
            max_reading: bodies that are read at once; more requests are refused.
        """
        self._app, self._max_body_bytes, self._uploads = app, max_body_bytes, uploads
        self._max_reading, self._reading = max_reading, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection.

        Raises:
            OverloadedError: too many bodies are being read already.
        """
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
            return
        if self._reading >= self._max_reading:
            raise OverloadedError(f"{self._reading} requests are being read already; try again shortly")
        self._reading += 1
        try:
            problem, body = await self._admit(scope, dict(scope["headers"]), receive, scope["state"]["request_id"])
        finally:
            self._reading -= 1
        if problem is not None:
            scope["state"]["record"].failed(problem.code)
            await respond(problem, scope["path"])(scope, receive, send)
        else:
            await self._app(scope, _replayed(body, receive), send)

    async def _admit(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, request_id: str
    ) -> tuple[Problem | None, bytes]:
        max_bytes, timeout_s, media_type = self._max_body_bytes, BODY_TIMEOUT_S, b"application/json"
        if self._uploads.path.fullmatch(scope["path"]):
            authorization = headers.get(b"authorization", b"").decode("latin-1")
            if (problem := self._uploads.refusal(authorization, request_id)) is not None:
                return problem, b""
            max_bytes, timeout_s, media_type = self._uploads.max_bytes, UPLOAD_TIMEOUT_S, b"multipart/form-data"
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
            return None, b""
        if kind != media_type:
            wanted = "JSON" if media_type == b"application/json" else "a form with files"
            detail = f"send {wanted}, with the header Content-Type: {media_type.decode()}"
            return problem_of(415, "not_json", detail, request_id), b""
        try:
            async with asyncio.timeout(timeout_s):
                return await _read(headers, receive, request_id, max_bytes)
        except TimeoutError:
            detail = f"the body did not arrive within {timeout_s} s"
            return problem_of(408, "body_too_slow", detail, request_id), b""


async def _read(
    headers: dict[bytes, bytes], receive: Receive, request_id: str, max_bytes: int
) -> tuple[Problem | None, bytes]:
    body, more = bytearray(), True
    announced = headers.get(b"content-length", b"0")
    too_large = announced.isdigit() and int(announced) > max_bytes
    while more and not too_large:
        message = await receive()
        if message["type"] == "http.disconnect":  # half a body is no body
            return problem_of(400, "client_gone", "the client left before its request was whole", request_id), b""
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
