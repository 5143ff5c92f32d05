"""Ledgers: what an ingress replica has counted and recorded, on its way to the store."""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from llama_platform import __version__
from llama_platform.access.usage import UsageBook
from llama_platform.audit.journal import Journal, recover
from llama_platform.audit.records import new_writer
from llama_platform.canary.counts import SplitBook
from llama_platform.errors import PlatformError
from llama_platform.storage.base import ObjectStore
from serve_apps.config import AppConfig
from serve_apps.worker_pools import WorkerPools

log = logging.getLogger(__name__)
INTERVAL_S = 10.0
"""How often they are written; of usage, a process that is killed loses what it counted since."""
SPLITS_INTERVAL_S = 2.0


class Ledgers:
    """The usage, the splits and the audit trail of one replica."""

    def __init__(self, config: AppConfig, store: ObjectStore, fingerprint: str) -> None:
        """Begin both.

        Args:
            config: the application's.
            store: where they are kept.
            fingerprint: prompt fingerprint of the application, for the trail.

        Raises:
            StorageError: the folder of the audit trail cannot be written.
        """
        writer = new_writer()
        self._store, self._folder = store, audit_folder(config, store.root)
        self.usage, self.splits = UsageBook(store, writer), SplitBook(store, writer)
        self.journal: Journal | None = None
        if config.audit.enabled:
            self.journal = Journal(self._folder, writer)
            base = config.base.model_dump(mode="json")
            self.journal.append("start", {"base": base, "prompt_fingerprint": fingerprint, "release": __version__})

    async def run(self, pools: WorkerPools) -> None:
        """Commit what killed replicas of this node have left, then write what comes, for ever."""
        if self.journal is not None:
            await self._tried(pools, self._recover)
        away = False
        while True:
            await asyncio.sleep(INTERVAL_S)
            away = not await self._tried(pools, self._write, quiet=away)

    async def run_splits(self, pools: WorkerPools) -> None:
        """Write what canaries are judged by, for ever; sooner than the rest, so that a bad version goes soon."""
        away = False
        while True:
            await asyncio.sleep(SPLITS_INTERVAL_S)
            away = not await self._tried(pools, self.splits.write, quiet=away)

    async def close(self) -> None:
        """Write the rest; what cannot be written now stays on this node's disk."""
        try:
            await asyncio.to_thread(self.usage.write)
            await asyncio.to_thread(self.splits.write)
            if self.journal is not None:
                await asyncio.to_thread(self.journal.close, self._store)
        except PlatformError as error:
            log.error("the last records are not in the store", extra={"reason": str(error)})

    def _write(self) -> None:
        self.usage.write()
        if self.journal is not None:
            self.journal.commit(self._store)

    def _recover(self) -> None:
        if chains := recover(self._folder, self._store):
            log.info("records of killed replicas are committed", extra={"chains": chains})

    async def _tried(self, pools: WorkerPools, work: Callable[[], None], quiet: bool = False) -> bool:
        try:
            await pools.store(work)
        except PlatformError as error:
            if not quiet:
                log.error("usage and audit trail cannot be written; they are kept here", extra={"reason": str(error)})
            return False
        return True


def audit_folder(config: AppConfig, root: str) -> Path:
    """Return the folder of a node's disk that records are written to first; each store has its own there.

    Args:
        config: the application's.
        root: URI of the store that they are committed to.
    """
    folder = config.audit.folder or config.store.cache.parent / "audit"
    return folder.expanduser() / hashlib.sha256(root.encode()).hexdigest()[:16]
