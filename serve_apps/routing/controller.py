"""AliasController: reads aliases in the store, has replicas hold what they name, and publishes the routes.

One for the application. Names that were asked for lately are read at every turn, the others in turn, so that thousands
of adapters cost a bounded number of conditional reads. When the controller dies, Serve starts another; meanwhile
the ingress keeps the last table, and replicas keep what they hold. The new one goes on with that table, since its store
may be away: that a name does not exist counts only where the store itself can be read.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from llama_platform.access.keys import AccessDocument
from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.location import repository_from
from llama_platform.artifacts.manifest import ArtifactKind
from llama_platform.artifacts.refs import BASE, parse_ref
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import IntegrityError, NotFoundError, PlatformError, StorageError
from llama_platform.logs import setup_logging
from llama_platform.models.base_model import load_template
from serve_apps.config import AppConfig
from serve_apps.routing.canary_follower import CanaryFollower
from serve_apps.routing.key_book import KeysFollower
from serve_apps.routing.reconcile import Holding, Reconciler
from serve_apps.routing.replica_status import ReplicaStatus
from serve_apps.routing.table import KINDS, RoutingTable
from serve_apps.routing.validation import check_version
from serve_apps.serve_metrics import gauge

log = logging.getLogger(__name__)
LEASE_S = 2.5
"""How long a silent replica counts."""
WAIT_S = 1.0
"""How long a caller that waits for news waits at most."""
SETTLE_S = 5.0
"""How long a caller that asks for one name waits at most for replicas to hold it."""
HOT_S = 600.0
"""How long a name counts as asked for."""
READS_PER_TURN = 50
"""Names beside the hot ones that are read in a turn."""
DISCOVERY_S = 3.0
PUBLISH_S = 0.1
"""What replicas tell is taken into account at most this often, in seconds."""
MOST_PINNED = 64


class AliasController:
    """The deployment; all state lives in its event loop."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Start following.

        Args:
            config: AppConfig as JSON.
        """
        setup_logging()
        self._config = AppConfig.model_validate(config)
        repository = repository_from(self._config.store, os.environ)
        fingerprint = load_template(self._config.base).fingerprint()
        names = (self._config.adapter, self._config.rag_adapter)
        defaults = {
            "adapter": [parse_ref(name).name for name in names if name and name != BASE],
            "index": [parse_ref(self._config.index).name] if self._config.index else [],
        }
        self._followed = {kind: Followed(kind, repository, self._config, fingerprint, defaults[kind]) for kind in KINDS}
        self._keys = KeysFollower(repository.store, self._config.alias_interval_s)
        self._tasks = [asyncio.ensure_future(followed.run()) for followed in self._followed.values()]
        if "keys" in self._config.auth.mode:
            self._tasks.append(asyncio.ensure_future(self._keys.run()))
        canaries = CanaryFollower(repository, self._followed["adapter"].live)
        self._tasks.append(asyncio.ensure_future(canaries.run()))

    async def follow(
        self, kind: ArtifactKind, replica: str, revision: int, holding: Holding, status: ReplicaStatus | None
    ) -> tuple[int, tuple[ArtifactVersion, ...] | None]:
        """Register a replica; return what replicas should hold when that has changed, or after a second.

        Until this controller has read what there is, what replicas should hold is None: they keep what they hold.

        Args:
            kind: `adapter` or `index`.
            replica: id of the replica.
            revision: the newest revision that the replica knows; 0 for none.
            holding: versions that the replica holds, has given up or cannot load.
            status: the replica's own figures for `/health`; None if it tells none.
        """
        followed = self._followed[kind]
        if followed.live.set_replica(replica, holding, status, time.monotonic()):
            followed.publish_soon()
        await followed.wait_beyond(revision)
        if not followed.started.is_set():
            return revision, None
        return followed.live.table.revision, followed.live.pinned

    async def keys(self, generation: int) -> AccessDocument | None:
        """Return the keys of clients when they have another generation, or after a second; None while unknown."""
        return await self._keys.news(generation)

    async def inherit(self, kind: ArtifactKind, table: RoutingTable) -> None:
        """Go on with the routes that an ingress knows from an earlier controller; see Reconciler.inherit."""
        self._followed[kind].live.inherit(table.aliases.values())
        self._followed[kind].publish()

    async def pinned(self, kind: ArtifactKind) -> tuple[ArtifactVersion, ...]:
        """Return what a replica is to hold before it is ready."""
        followed = self._followed[kind]
        await followed.started.wait()
        return followed.live.pinned

    async def table(self, kind: ArtifactKind, revision: int, asked: Iterable[str]) -> RoutingTable:
        """Return the table when it has changed, or after a second.

        Args:
            kind: kind of the artifacts.
            revision: revision that the caller knows.
            asked: names that requests have asked for since the last call.
        """
        followed = self._followed[kind]
        followed.warm(asked)
        await followed.started.wait()
        await followed.wait_beyond(revision)
        return followed.table_now()

    async def look(self, kind: ArtifactKind, name: str) -> RoutingTable:
        """Read one name's aliases now, and return the table once it is known what answers under them.

        Raises:
            StorageError: the store cannot be read.
        """
        followed = self._followed[kind]
        followed.warm([name])
        await followed.started.wait()
        await followed.read([name])
        await followed.check()
        await followed.settle(name)
        return followed.table_now()

    def check_health(self) -> None:
        """Let Serve start another controller where a loop has ended.

        Raises:
            RuntimeError: it has.
        """
        for task in self._tasks:
            if task.done():
                raise RuntimeError(f"following aliases has ended: {task.exception()}")


class Followed:
    """One kind of artifact: reading, checking, publishing."""

    def __init__(
        self, kind: ArtifactKind, repository: Any, config: AppConfig, fingerprint: str, defaults: Iterable[str]
    ) -> None:
        """Start with nothing known; the defaults are names that always count as asked for.

        Args:
            kind: `adapter` or `index`.
            repository: store of the artifacts.
            config: the application's base and intervals.
            fingerprint: prompt fingerprint of the base, which adapters must share.
            defaults: names that always count as asked for.
        """
        self._kind, self._repository, self._fingerprint = kind, repository, fingerprint
        self._base, self._interval_s = config.base, config.alias_interval_s
        self._defaults = tuple(dict.fromkeys(defaults))
        self.live = Reconciler(LEASE_S, MOST_PINNED)
        self.started = asyncio.Event()
        self.store_problem: str | None = None
        """Why the store could not be read in the last turn."""
        self._readable = gauge("llama_store_readable")
        self._changed = asyncio.Event()
        self._publishing: asyncio.TimerHandle | None = None
        self._published_at = -PUBLISH_S
        self._reading: dict[str, asyncio.Lock] = {}
        self._checking: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._asked: dict[str, float] = {}
        self._etags: dict[str, str | None] = {}
        self._rest: deque[str] = deque()
        self._retry_at: dict[tuple[str, int], float] = {}

    async def run(self) -> None:
        """Follow for ever."""
        begun = time.monotonic()
        discovered = -DISCOVERY_S
        while True:
            try:
                now = time.monotonic()
                if now - discovered >= DISCOVERY_S:
                    await self._discover()
                    discovered = now
                try:
                    await self.read(self._turn())
                finally:  # what could be read counts, whatever could not
                    await self.check()
                self._note_store(None)
            except PlatformError as error:  # the store is away: the routes stay
                self._note_store(str(error))
            except Exception:  # following must go on, whatever one turn meets
                log.exception("a turn of following aliases failed")
            # Replicas of an earlier controller get the time to say what they hold before anything is published.
            if not self.started.is_set() and time.monotonic() - begun >= LEASE_S:
                self.started.set()
            self.publish()
            await asyncio.sleep(self._interval_s)

    def table_now(self) -> RoutingTable:
        """Return the published routes, with what replicas last said and whether the store can be read."""
        return replace(self.live.table_now(), store_problem=self.store_problem)

    def _note_store(self, problem: str | None) -> None:
        """Remember whether the store can be read, and say so once in the log."""
        if (problem is None) != (self.store_problem is None):
            if problem is None:
                log.info("aliases can be read again", extra={"kind": self._kind})
            else:
                log.error("aliases cannot be read; the routes stay", extra={"kind": self._kind, "reason": problem})
        self.store_problem = problem
        self._readable.set(float(problem is None), tags={"kind": self._kind})

    def warm(self, names: Iterable[str]) -> None:
        """Mark names as asked for."""
        now = time.monotonic()
        self._asked.update(dict.fromkeys(names, now))

    def publish(self) -> None:
        """Publish what has changed, and wake whoever waits for it."""
        if self._publishing is not None:
            self._publishing.cancel()
            self._publishing = None
        self._published_at = time.monotonic()
        if self.live.publish(self._order(), time.monotonic()):
            for alias in self.live.table.aliases.values():
                if alias.status == "refused":
                    log.error(
                        "alias refused", extra={"artifact": alias.name, "alias": alias.alias, "reason": alias.reason}
                    )
            self._changed.set()
            self._changed = asyncio.Event()

    def publish_soon(self) -> None:
        """Publish at once if that was not done lately, else in a moment, together with what comes until then."""
        if self._publishing is None:
            wait_s = max(0.0, self._published_at + PUBLISH_S - time.monotonic())
            self._publishing = asyncio.get_running_loop().call_later(wait_s, self.publish)

    async def wait_beyond(self, revision: int) -> None:
        """Return when the table has another revision, or after a second."""
        if self.live.table.revision == revision or not self.started.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_S):
                    await self._changed.wait()

    async def settle(self, name: str) -> None:
        """Return when every alias of a name has something that answers, or is refused, or after some seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while any(
                    alias.name == name and alias.status == "pending" and not alias.targets
                    for alias in self.live.table.aliases.values()
                ):
                    await self._changed.wait()

    async def read(self, names: Iterable[str]) -> None:
        """Read the aliases of names, if they have changed.

        Raises:
            StorageError: the store cannot be read.
        """
        wanted = [name for name in dict.fromkeys(names) if name]
        failed: list[BaseException] = []
        for start in range(0, len(wanted), 16):
            reading = (self._read_one(name) for name in wanted[start : start + 16])
            done = await asyncio.gather(*reading, return_exceptions=True)
            failed += [outcome for outcome in done if isinstance(outcome, BaseException)]
        if failed:  # one name that cannot be read keeps no other waiting
            raise failed[0]

    async def check(self) -> None:
        """Check the versions that this is still needed of, and publish."""
        self.publish()
        now = time.monotonic()
        ranks = {name: rank for rank, name in enumerate(self._order())}
        due = [entry for entry in self.live.unchecked if self._retry_at.get(entry, 0.0) <= now]
        due.sort(key=lambda entry: (ranks.get(entry[0], len(ranks)), entry))
        for start in range(0, len(due), 4):
            # Of what no replica is to hold, every byte is checked when a request first loads it.
            checks = [
                self._check_once(*entry, whole=start + place < MOST_PINNED)
                for place, entry in enumerate(due[start : start + 4])
            ]
            await asyncio.gather(*map(asyncio.shield, checks))
            self.publish()

    async def _read_one(self, name: str) -> None:
        """Read one name's aliases.

        Raises:
            StorageError: the store cannot be read.
        """
        # One read after another: an older one that takes longer must not undo a newer one.
        async with self._reading.setdefault(name, asyncio.Lock()):
            await self._read_now(name)

    async def _read_now(self, name: str) -> None:
        aliases = Aliases(self._repository, self._kind, name)
        try:
            found = await asyncio.to_thread(aliases.read_if_changed, self._etags.get(name))
        except NotFoundError:
            await asyncio.to_thread(self._repository.store.check)
            self._forget(name)
        except IntegrityError as error:
            log.error("aliases are damaged; the routes stay", extra={"artifact": name, "reason": str(error)})
        else:
            if found is not None:
                document, self._etags[name] = found
                self.live.set_document(name, document)

    def _forget(self, name: str) -> None:
        self.live.set_document(name, None)
        self._etags.pop(name, None)
        if name in self._reading and not self._reading[name].locked():
            del self._reading[name]
        self._asked.pop(name, None)  # a name that does not exist is not worth reading at every turn

    def _check_once(self, name: str, number: int, *, whole: bool) -> "asyncio.Task[None]":
        """Return the check of a version: the one that is under way, or a new one."""
        key = (name, number)
        if key not in self._checking:
            self._checking[key] = asyncio.ensure_future(self._check_one(name, number, whole=whole))
            self._checking[key].add_done_callback(lambda _: self._checking.pop(key))
        return self._checking[key]

    async def _check_one(self, name: str, number: int, *, whole: bool) -> None:
        try:
            version = await asyncio.to_thread(self._repository.version, self._kind, name, number)
            await asyncio.to_thread(check_version, self._repository, version, self._base, self._fingerprint, whole)
        except StorageError as error:
            log.warning(
                "a version cannot be read yet", extra={"artifact": name, "version": number, "reason": str(error)}
            )
            self._retry_at[name, number] = time.monotonic() + 5
        except PlatformError as error:
            self.live.set_checked(name, number, str(error))
        except OSError as error:  # this node's disk, not the version
            log.warning("a version cannot be checked yet", extra={"artifact": name, "version": number}, exc_info=error)
            self._retry_at[name, number] = time.monotonic() + 5
        except Exception as error:  # whatever one version does to its check, the others go on
            log.exception("a check has broken", extra={"artifact": name, "version": number})
            self.live.set_checked(name, number, f"it cannot be checked ({type(error).__name__})")
        else:
            self.live.set_checked(name, number, version)

    async def _discover(self) -> None:
        names = await asyncio.to_thread(self._repository.folders, self._kind)
        known = set(self._rest)
        if known - set(names):
            await asyncio.to_thread(self._repository.store.check)
        self._rest.extend(name for name in names if name not in known)
        for gone in known - set(names):
            self._rest.remove(gone)
            self._forget(gone)

    def _turn(self) -> list[str]:
        others = [self._rest[place] for place in range(min(READS_PER_TURN, len(self._rest)))]
        self._rest.rotate(-len(others))
        return [*self._order(), *others]

    def _order(self) -> list[str]:
        """Return the names that count most: the defaults, then the others as they were asked for, latest first."""
        now = time.monotonic()
        self._asked = {name: at for name, at in self._asked.items() if now - at <= HOT_S}
        recent = sorted(self._asked, key=lambda name: -self._asked[name])
        return list(dict.fromkeys((*self._defaults, *recent)))
