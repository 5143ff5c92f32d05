"""Replies: answers that are kept for a day, so that a request that is sent twice is worked on once.

For the header Idempotency-Key (IETF draft-ietf-httpapi-idempotency-key-header).
"""

import base64
import json
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from llama_platform.access.redis_pool import redis_pool
from llama_platform.errors import UnavailableError

KEPT_S = 24 * 3600
MEMORY_BYTES = 64 * 2**20
"""Bound on the answers that one process keeps in memory; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is kept of a request."""

    body_sha256: str
    """Of the request's body."""
    status: int = 0
    """HTTP status of the answer; 0 while it is worked on."""
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes = b""


class Replies(Protocol):
    """Where answers are kept."""

    async def begin(self, name: str, body_sha256: str, lease_s: float) -> Reply | None:
        """Take a name, or return what is kept under it.

        Args:
            name: what the request is called.
            body_sha256: sha256 of its body.
            lease_s: seconds after which the name is free, should the process have died meanwhile.

        Raises:
            UnavailableError: nothing can be kept right now.
        """
        ...

    async def finish(self, name: str, reply: Reply) -> None:
        """Keep an answer.

        Raises:
            UnavailableError: it cannot be kept.
        """
        ...

    async def forget(self, name: str) -> None:
        """Free a name, as of a request that was not worked on.

        Raises:
            UnavailableError: it stays taken until its lease ends.
        """
        ...


class RepliesInMemory:
    """Answers of one process."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: OrderedDict[str, tuple[float, Reply]] = OrderedDict()
        self._bytes = 0

    async def begin(self, name: str, body_sha256: str, lease_s: float) -> Reply | None:
        """Take a name; see Replies."""
        found = self._kept.get(name)
        if found is not None and found[0] > time.monotonic():
            return found[1]
        self._put(name, Reply(body_sha256), lease_s)
        return None

    async def finish(self, name: str, reply: Reply) -> None:
        """See Replies."""
        self._put(name, reply, KEPT_S)

    async def forget(self, name: str) -> None:
        """See Replies."""
        if (found := self._kept.pop(name, None)) is not None:
            self._bytes -= len(found[1].content)

    def _put(self, name: str, reply: Reply, seconds: float) -> None:
        if (before := self._kept.pop(name, None)) is not None:
            self._bytes -= len(before[1].content)
        self._kept[name] = time.monotonic() + seconds, reply
        self._bytes += len(reply.content)
        while self._bytes > MEMORY_BYTES or (self._kept and next(iter(self._kept.values()))[0] < time.monotonic()):
            _, (_, oldest) = self._kept.popitem(last=False)
            self._bytes -= len(oldest.content)


class RepliesInRedis:
    """Answers that several processes share."""

    def __init__(self, uri: str) -> None:
        """Connect at the first use."""
        self._client = Redis.from_pool(redis_pool(uri))

    async def begin(self, name: str, body_sha256: str, lease_s: float) -> Reply | None:
        """Take a name; see Replies."""
        with _reaching():
            taken = await self._client.set(_key(name), _dumped(Reply(body_sha256)), nx=True, ex=max(1, int(lease_s)))
            kept = None if taken else await self._client.get(_key(name))
        return None if kept is None else _loaded(kept)

    async def finish(self, name: str, reply: Reply) -> None:
        """See Replies."""
        with _reaching():
            await self._client.set(_key(name), _dumped(reply), ex=KEPT_S)

    async def forget(self, name: str) -> None:
        """See Replies."""
        with _reaching():
            await self._client.delete(_key(name))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise UnavailableError("answers cannot be kept right now; send it again without Idempotency-Key") from error


def _key(name: str) -> str:
    return f"REPLIES/{name}"


def _dumped(reply: Reply) -> str:
    content = base64.b64encode(reply.content).decode()
    return json.dumps([reply.body_sha256, reply.status, reply.headers, content])


def _loaded(text: bytes | str) -> Reply:
    digest, status, headers, content = json.loads(text)
    return Reply(digest, status, tuple((name, value) for name, value in headers), base64.b64decode(content))
