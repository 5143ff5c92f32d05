"""Admission: how many requests are worked on at once, how many wait, and who is refused with when to come back.

Ray Serve has limits of its own, but refuses as plain text and lets wait without a deadline: its limits lie far above
these.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from llama_platform.errors import LimitError, OverloadedError
from serve_apps.generation.deadline import Deadline

EXEMPT = ("/health",)
"""Beginnings of paths that are answered however much there is to do."""


class Admission:
    """ASGI middleware."""

    def __init__(
        self, app: ASGIApp, max_ongoing: int, max_queued: int, tenant_of: Callable[[Scope], str] = lambda scope: ""
    ) -> None:
        """Stand before `app`.

        Args:
            app: the next layer.
            max_ongoing: requests that are worked on at once.
            max_queued: requests that wait for their turn; more are refused.
            tenant_of: returns whose a request is, which may have half of these places together; the empty text for
                nobody's.
        """
        self._tenant_of, self._share, self._held = tenant_of, max(1, (max_ongoing + max_queued) // 2), Counter[str]()
        self._app, self._max_queued = app, max_queued
        self._places, self._queued = asyncio.Semaphore(max_ongoing), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection.

        Raises:
            OverloadedError: too many requests wait already.
            LimitError: its tenant has half of all places.
            DeadlineError: the request's turn does not come before its deadline.
        """
        if scope["type"] != "http" or scope["path"].startswith(EXEMPT):
            await self._app(scope, receive, send)
            return
        if self._places.locked() and self._queued >= self._max_queued:
            raise OverloadedError(f"{self._queued} requests are waiting already; try again shortly")
        tenant = self._tenant_of(scope)
        if tenant and self._held[tenant] >= self._share:
            raise LimitError("concurrent_requests", self._share, "tenant", 1)
        self._held[tenant] += 1
        try:
            await self._in_turn(scope, receive, send)
        finally:
            self._held[tenant] -= 1
            if not self._held[tenant]:
                del self._held[tenant]

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        deadline: Deadline = scope["state"]["deadline"]
        self._queued += 1
        try:
            await deadline.within(self._places.acquire())
        finally:
            self._queued -= 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._places.release()
