"""Idempotency: the header Idempotency-Key of POST requests (IETF draft-ietf-httpapi-idempotency-key-header).

The same key and body get the same answer for a day, and are worked on once; while they are worked on, 409; another
body is 422. Keys count for each caller by itself.
"""

import hashlib
import logging
import re
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llama_platform.access.replies import Replies, Reply
from llama_platform.errors import ConflictError, InputError, KeyReusedError, UnavailableError

log = logging.getLogger(__name__)
HEADER = b"idempotency-key"
KEY = re.compile(rb"[\x21-\x7e]{1,255}")
MOST_BYTES = 2**20
"""Longer answers are not kept; the same request is then worked on again."""
NOT_KEPT = frozenset({401, 403, 408, 409, 429})
"""Statuses that say nothing of the request itself."""
SECRETS = "/admin/keys"
"""Beginning of paths whose answers hold secrets, which are kept nowhere."""


class Idempotency:
    """ASGI middleware; bodies are whole when they come here."""

    def __init__(
        self, app: ASGIApp, replies: Replies, caller_of: Callable[[Scope], str | None], lease_s: float
    ) -> None:
        """Stand before `app`.

        Args:
            app: the next layer.
            replies: where answers are kept.
            caller_of: returns a name of who asks; None for nobody who may.
            lease_s: seconds after which a request counts as not worked on any more.
        """
        self._app, self._replies, self._caller_of, self._lease_s = app, replies, caller_of, lease_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection.

        Raises:
            InputError: the header is none.
            ConflictError: the same request is worked on right now.
            KeyReusedError: the key came with another body before.
        """
        given = dict(scope["headers"]).get(HEADER) if scope["type"] == "http" and scope["method"] == "POST" else None
        caller = self._caller_of(scope) if given is not None and not scope["path"].startswith(SECRETS) else None
        if given is None or caller is None:
            await self._app(scope, receive, send)
            return
        if KEY.fullmatch(given) is None:
            raise InputError("Idempotency-Key: 1 to 255 visible characters of ASCII are allowed")
        first = await receive()
        body = first.get("body", b"")
        digest = hashlib.sha256(body).hexdigest()
        name = hashlib.sha256(b"\0".join([caller.encode(), scope["path"].encode(), given])).hexdigest()
        kept = await self._replies.begin(name, digest, self._lease_s)
        if kept is not None:
            await _answer(kept, digest, send)
            return
        await self._work(name, digest, scope, _replayed(first, receive), send)

    async def _work(self, name: str, digest: str, scope: Scope, receive: Receive, send: Send) -> None:
        collected = _Collected(digest)

        async def collecting(message: Message) -> None:
            collected.note(message)
            await send(message)

        done = False
        try:
            await self._app(scope, receive, collecting)
            done = True
        finally:
            try:
                if done and (reply := collected.reply()) is not None:
                    await self._replies.finish(name, reply)
                else:
                    await self._replies.forget(name)
            except UnavailableError as error:
                log.warning("an answer is not kept for its Idempotency-Key", extra={"reason": str(error)})


class _Collected:
    """A response as it is sent."""

    def __init__(self, digest: str) -> None:
        self._digest, self._status, self._whole = digest, 0, False
        self._headers: tuple[tuple[str, str], ...] = ()
        self._content = bytearray()

    def note(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = tuple(
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in message["headers"]
                if name.lower() in (b"content-type", b"x-max-tokens-capped", b"www-authenticate")
            )
        elif message["type"] == "http.response.body":
            if len(self._content) <= MOST_BYTES:
                self._content += message.get("body", b"")
            self._whole = not message.get("more_body", False)

    def reply(self) -> Reply | None:
        """Return what is kept; None for what is not."""
        keeps = self._whole and 0 < self._status < 500 and self._status not in NOT_KEPT
        if not keeps or len(self._content) > MOST_BYTES:
            return None
        return Reply(self._digest, self._status, self._headers, bytes(self._content))


async def _answer(kept: Reply, digest: str, send: Send) -> None:
    if kept.body_sha256 != digest:
        raise KeyReusedError("Idempotency-Key: it came with another body before; use a new key for a new request")
    if not kept.status:
        raise ConflictError("the same request is worked on right now; ask again when it has been answered")
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept.headers]
    headers += [(b"content-length", str(len(kept.content)).encode()), (b"idempotency-replayed", b"true")]
    await send({"type": "http.response.start", "status": kept.status, "headers": headers})
    await send({"type": "http.response.body", "body": kept.content})


def _replayed(first: Message, receive: Receive) -> Receive:
    waiting = [first]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
