"""Body limit: refuses bodies that are too large, too slow or of another kind than a route takes."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llama_platform.errors import BodyError, BodyTooLargeError, BodyTooSlowError, MediaTypeError, OverloadedError

BODY_TIMEOUT_S = 15
UPLOAD_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Uploads:
    """Where forms with files are taken, and from whom."""

    path: re.Pattern[str]
    max_bytes: int
    check: Callable[[str], object]
    """Raises, of a header `Authorization`, why the body is not even read."""


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
            BodyError: the body is too large, too slow, or of another kind than the route takes.
            UnauthorizedError: whoever asks may not send a form with files.
        """
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
            return
        if self._reading >= self._max_reading:
            raise OverloadedError(f"{self._reading} requests are being read already; try again shortly")
        self._reading += 1
        try:
            body = await self._admit(scope["path"], dict(scope["headers"]), receive)
        finally:
            self._reading -= 1
        await self._app(scope, _replayed(body, receive), send)

    async def _admit(self, path: str, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        max_bytes, timeout_s, media_type = self._max_body_bytes, BODY_TIMEOUT_S, b"application/json"
        if self._uploads.path.fullmatch(path):
            self._uploads.check(headers.get(b"authorization", b"").decode("latin-1"))
            max_bytes, timeout_s, media_type = self._uploads.max_bytes, UPLOAD_TIMEOUT_S, b"multipart/form-data"
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
            return b""
        if kind != media_type:
            wanted = "JSON" if media_type == b"application/json" else "a form with files"
            raise MediaTypeError(f"send {wanted}, with the header Content-Type: {media_type.decode()}")
        try:
            async with asyncio.timeout(timeout_s):
                return await _read(headers, receive, max_bytes)
        except TimeoutError as error:
            raise BodyTooSlowError(f"the body did not arrive within {timeout_s} s") from error


async def _read(headers: dict[bytes, bytes], receive: Receive, max_bytes: int) -> bytes:
    body, more = bytearray(), True
    announced = headers.get(b"content-length", b"0")
    too_large = announced.isdigit() and int(announced) > max_bytes
    while more and not too_large:
        message = await receive()
        if message["type"] == "http.disconnect":  # half a body is no body
            raise BodyError("the client left before its request was whole")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        too_large = len(body) > max_bytes
    if too_large:
        raise BodyTooLargeError(f"the body is over the limit of {max_bytes} bytes")
    return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
