"""AliasRouter: the controller's tables as this ingress last heard them, and the versions that references mean."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Protocol, TypeVar

from llama_platform.artifacts.aliases import Target, choose
from llama_platform.artifacts.manifest import ArtifactKind, Manifest
from llama_platform.artifacts.refs import PRODUCTION, parse_ref
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.canary.counts import SplitKey
from llama_platform.errors import IntegrityError, NotFoundError, UnavailableError
from serve_apps.routing.table import Route, RoutingTable
from serve_apps.worker_pools import WorkerPools

log = logging.getLogger(__name__)
PAUSE_S = 0.5
LOOK_TIMEOUT_S = 10.0
LOOKS_AT_ONCE = 16
"""Names that the controller is asked to look for at a time."""
ABSENT_S = 2.0
"""How long a name or version that was not found is not looked for again."""
REMEMBERED = 4096
"""Versions that are remembered, and as many that were not found."""
T = TypeVar("T")


class Controller(Protocol):
    """The AliasController, as an ingress sees it."""

    async def table(self, kind: ArtifactKind, revision: int, asked: list[str]) -> RoutingTable:
        """Return the table when it has another revision, or after a second."""
        ...

    async def look(self, kind: ArtifactKind, name: str) -> RoutingTable:
        """Read one name now, and return the table."""
        ...

    async def inherit(self, kind: ArtifactKind, table: RoutingTable) -> None:
        """Let a new controller go on with the table of the one before it."""
        ...


class AliasRouter:
    """Resolves references without asking anybody, for names that were asked for before."""

    def __init__(self, controller: Controller, repository: ArtifactRepository, pools: WorkerPools) -> None:
        """Begin with empty tables; `run` keeps them up to date.

        Args:
            controller: publishes the tables.
            repository: read for versions by number.
            pools: where the store is called.
        """
        self._controller, self._repository, self._pools = controller, repository, pools
        self._tables: dict[ArtifactKind, RoutingTable] = {"adapter": RoutingTable(), "index": RoutingTable()}
        self._asked: dict[ArtifactKind, set[str]] = {"adapter": set(), "index": set()}
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._shared: dict[Hashable, asyncio.Future[Any]] = {}
        self._versions: OrderedDict[tuple[ArtifactKind, str, int], tuple[ArtifactVersion, Manifest]] = OrderedDict()
        self._absent: OrderedDict[tuple[ArtifactKind, str], tuple[float, str]] = OrderedDict()

    def table(self, kind: ArtifactKind) -> RoutingTable:
        """Return the table of a kind, as it was last heard."""
        return self._tables[kind]

    async def run(self, kind: ArtifactKind) -> None:
        """Follow a kind's table for ever; without a controller the last one stays."""
        lost = False
        while True:
            asked, self._asked[kind] = self._asked[kind], set()
            try:
                if lost:  # the controller that answers now may be a new one, and its store away
                    await self._controller.inherit(kind, self._tables[kind])
                    lost = False
                self._tables[kind] = await self._controller.table(kind, self._tables[kind].revision, sorted(asked))
            except Exception as error:  # the controller is being replaced
                lost = True
                self._asked[kind] |= asked
                log.warning("the controller does not answer; the last table stays", extra={"reason": repr(error)})
                await asyncio.sleep(PAUSE_S)

    async def resolve(self, kind: ArtifactKind, text: str, subject: str, request: str | None = None) -> ArtifactVersion:
        """Return the version that a reference means for a subject.

        Args:
            kind: kind of the artifact.
            text: the reference.
            subject: a user, a session or a request; the same one always gets the same side of a split.
            request: id of the request, which decides instead while a canary runs: what is counted then must be
                independent; None for the subject.

        Raises:
            InputError: `text` is no reference.
            NotFoundError: there is no such name, alias or version.
            IntegrityError: what the alias points at is refused, and nothing was fit before it.
            UnavailableError: it is not known yet.
        """
        ref = parse_ref(text)
        if ref.version is not None:
            return (await self.version(kind, ref.name, ref.version))[0]
        self._asked[kind].add(ref.name)
        alias = ref.alias or PRODUCTION
        live = self._tables[kind].aliases.get((ref.name, alias))
        if live is None or not live.targets:
            live = await self._look(kind, ref.name, alias)
        decides = request if live.canary and request is not None else subject
        number = choose(
            ref.name, alias, tuple(Target(version=t.version.version, weight=t.weight) for t in live.targets), decides
        )
        return next(target.version for target in live.targets if target.version.version == number)

    def split_of(self, text: str) -> SplitKey | None:
        """Return the split of the canary that a reference to an adapter goes through; None where there is none."""
        ref = parse_ref(text)
        alias = ref.alias or PRODUCTION
        live = self._tables["adapter"].aliases.get((ref.name, alias))
        if ref.version is not None or live is None or not live.canary:
            return None
        return SplitKey(ref.name, alias, live.since)

    async def version(self, kind: ArtifactKind, name: str, number: int) -> tuple[ArtifactVersion, Manifest]:
        """Return a version by number with its manifest; both never change, and are remembered.

        Raises:
            NotFoundError: there is none.
            StorageError: the store does not answer.
        """
        key = (kind, name, number)
        if (known := self._versions.get(key)) is not None:
            self._versions.move_to_end(key)
            return known
        self._refuse_absent(kind, f"{name}@{number}")
        try:
            found = await self._once(key, lambda: self._pools.store(self._read, kind, name, number))
        except NotFoundError as error:
            self._remember_absent(kind, f"{name}@{number}", str(error))
            raise
        self._versions[key] = found
        _shorten(self._versions)
        return found

    def _read(self, kind: ArtifactKind, name: str, number: int) -> tuple[ArtifactVersion, Manifest]:
        version = self._repository.version(kind, name, number)
        return version, self._repository.manifest(version)

    async def _look(self, kind: ArtifactKind, name: str, alias: str) -> Route:
        self._refuse_absent(kind, f"{name}@{alias}")

        async def look() -> RoutingTable:
            async with self._looks:
                return await self._controller.look(kind, name)

        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                table = await self._once((kind, name), look)
        except TimeoutError as error:
            raise UnavailableError(f"what {kind} '{name}' is at present is not known yet; try again") from error
        live = table.aliases.get((name, alias))
        if live is None:
            problem = f"{kind} '{name}' has no alias '{alias}'"
            self._remember_absent(kind, f"{name}@{alias}", problem)
            raise NotFoundError(problem)
        if not live.targets:
            if live.status == "refused":
                raise IntegrityError(f"{kind} {name}@{alias} is refused: {live.reason}")
            raise UnavailableError(f"{kind} {name}@{alias} is being loaded; try again in a moment")
        return live

    async def _once(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Do work once for all who ask for it meanwhile; one of them leaving does not end it."""
        if key not in self._shared:
            self._shared[key] = asyncio.ensure_future(work())

            def done(future: "asyncio.Future[Any]") -> None:
                del self._shared[key]
                if not future.cancelled():
                    future.exception()  # read, also where nobody waits for it any more

            self._shared[key].add_done_callback(done)
        found: T = await asyncio.shield(self._shared[key])
        return found

    def _remember_absent(self, kind: ArtifactKind, what: str, problem: str) -> None:
        self._absent[kind, what] = time.monotonic() + ABSENT_S, problem
        _shorten(self._absent)

    def _refuse_absent(self, kind: ArtifactKind, what: str) -> None:
        until, problem = self._absent.get((kind, what), (0.0, ""))
        if time.monotonic() < until:
            raise NotFoundError(problem)


def _shorten(remembered: "OrderedDict[Any, Any]") -> None:
    while len(remembered) > REMEMBERED:
        remembered.popitem(last=False)
