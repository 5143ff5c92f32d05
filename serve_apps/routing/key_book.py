"""Keys of clients: followed in the store by the controller, and known to every ingress."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from llama_platform.access.keys import AccessDocument, Caller, TenantDefaults, authenticate
from llama_platform.access.oidc import TokenVerifier
from llama_platform.access.registry import KeyRegistry
from llama_platform.errors import NotFoundError, PlatformError, UnavailableError
from llama_platform.storage.base import ObjectStore

log = logging.getLogger(__name__)
KEY_PREFIX = "lp_"
WAIT_S = 1.0
"""How long a caller that waits for news waits at most."""
PAUSE_S = 0.5


class KeysFollower:
    """The controller's part: reads the keys at every turn, by one conditional read."""

    def __init__(self, store: ObjectStore, interval_s: float) -> None:
        """Start with nothing known."""
        self._registry, self._store, self._interval_s = KeyRegistry(store), store, interval_s
        self._etag: str | None = None
        self._changed = asyncio.Event()
        self.document: AccessDocument | None = None
        """None until the store has told."""

    async def run(self) -> None:
        """Follow for ever; while the store is away, what is known stays."""
        away = False
        while True:
            try:
                await self._read()
                away = False
            except PlatformError as error:
                if not away:
                    log.error("keys cannot be read; what is known stays", extra={"reason": str(error)})
                away = True
            except Exception:  # following must go on, whatever one turn meets
                log.exception("a turn of following keys failed")
            await asyncio.sleep(self._interval_s)

    async def news(self, generation: int) -> AccessDocument | None:
        """Return the keys when they have another generation, or after a second."""
        if self.document is None or self.document.generation == generation:
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_S):
                    await self._changed.wait()
        return self.document

    async def _read(self) -> None:
        try:
            found = await asyncio.to_thread(self._registry.read_if_changed, self._etag)
        except NotFoundError:  # none was ever made, or the whole store is away
            await asyncio.to_thread(self._store.check)
            found = (AccessDocument(), "")
            self._etag = None
        if found is not None:
            document, self._etag = found[0], found[1] or None
            if document != self.document:
                self.document = document
                self._changed.set()
                self._changed = asyncio.Event()


class KeysSource(Protocol):
    """The controller, as an ingress sees it."""

    async def keys(self, generation: int) -> AccessDocument | None:
        """Return the keys when they have another generation, or after a second."""
        ...


class KeyBook:
    """An ingress's part: knows the keys as the controller last told them."""

    def __init__(
        self, source: KeysSource, tenants: Mapping[str, TenantDefaults], tokens: TokenVerifier | None = None
    ) -> None:
        """Know nothing yet; `run` keeps it up to date.

        Args:
            source: the controller.
            tenants: what each tenant gives its keys.
            tokens: verifies tokens of an identity provider; None where only keys are taken.
        """
        self._source, self._tenants, self._tokens = source, tenants, tokens
        self.document: AccessDocument | None = None
        """None until the controller has told."""

    async def run(self) -> None:
        """Follow for ever; without a controller the last keys stay."""
        while True:
            try:
                found = await self._source.keys(self.document.generation if self.document is not None else -1)
                self.document = self.document if found is None else found
            except Exception as error:  # the controller is being replaced
                log.warning("the controller does not answer; the last keys stay", extra={"reason": repr(error)})
                await asyncio.sleep(PAUSE_S)

    def caller(self, text: str) -> Caller:
        """Return who a key, or a token of the identity provider, is of.

        Raises:
            UnauthorizedError: it is none that is taken.
            UnavailableError: the keys are not known yet.
        """
        if self._tokens is not None and not text.startswith(KEY_PREFIX):
            return self._tokens.caller(text)
        if self.document is None:
            raise UnavailableError("the keys are not known here yet; try again in a moment")
        return authenticate(self.document, text, datetime.now(UTC), self._tenants)
