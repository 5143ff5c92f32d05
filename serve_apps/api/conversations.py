"""Conversations: keeps those of requests that agree to it, once they are answered."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from llama_platform.access.keys import Caller
from llama_platform.errors import PlatformError
from llama_platform.feedback.book import Conversation, FeedbackBook
from serve_apps.api.middleware.access_log import RequestRecord
from serve_apps.api.middleware.request_context import State
from serve_apps.config import AppConfig, TenantConfig
from serve_apps.worker_pools import WorkerPools

log = logging.getLogger(__name__)
DAY_S = 24 * 3600.0


class Conversations:
    """Of one ingress replica."""

    def __init__(self, book: FeedbackBook, config: AppConfig, pools: WorkerPools) -> None:
        """Keep in `book` what the configuration allows."""
        self.book = book
        self._config, self._pools = config, pools
        self._writing: set[asyncio.Task[None]] = set()

    def ended(self, state: State, record: RequestRecord, status: int, consent: str) -> None:
        """Keep the conversation of a request that has ended well, if it agrees.

        Args:
            state: what is known of the request.
            record: the same for the log; it holds the conversation of routes that have one.
            status: HTTP status.
            consent: the header of consent; empty where none came.
        """
        caller: Caller | None = state.get("caller")
        if status != 200 or not self._agreed(caller, consent):
            return
        if (found := record.conversation(caller.tenant if caller is not None else "")) is not None:
            task = asyncio.ensure_future(self._keep(found))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def written(self) -> None:
        """Wait until what has ended is in the store."""
        if self._writing:  # whoever stops waiting stops none of them
            await asyncio.wait(self._writing)

    async def run(self) -> None:
        """Delete what is too old, once a day, for ever."""
        while True:
            before = datetime.now(UTC) - timedelta(days=self._config.feedback.expire_days)
            try:
                count = await self._pools.store(self.book.expire, before.date(), timeout_s=DAY_S)
                log.info("old conversations are deleted", extra={"conversations": count})
            except PlatformError as error:
                log.error("old conversations cannot be deleted", extra={"reason": str(error)})
            await asyncio.sleep(DAY_S)

    def _agreed(self, caller: Caller | None, consent: str) -> bool:
        if not self._config.feedback.enabled or consent.lower() == "false":
            return False
        of_tenant = self._config.tenants.get(caller.tenant if caller is not None else "", TenantConfig())
        return of_tenant.keep_conversations or consent.lower() == "true"

    async def _keep(self, conversation: Conversation) -> None:
        try:
            await self._pools.store(self.book.keep, conversation)
        except PlatformError as error:
            log.error("a conversation is not kept", extra={"request": conversation.request, "reason": str(error)})
