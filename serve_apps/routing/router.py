"""AliasRouter: the follower's tables as this ingress last heard of them, and what references mean by them."""

import asyncio
import logging
from typing import Protocol

from llama_platform.artifacts.aliases import Target, choose
from llama_platform.artifacts.manifest import ArtifactKind, Manifest
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion, parse_ref
from llama_platform.errors import IntegrityError, NotFoundError, UnavailableError
from serve_apps.routing.reconcile import Route, RoutingTable

log = logging.getLogger(__name__)
PAUSE_S = 0.5
LOOK_TIMEOUT_S = 10.0


class Follower(Protocol):
    """What an ingress asks of the AliasController."""

    async def table(self, kind: ArtifactKind, revision: int, asked: list[str]) -> RoutingTable:
        """Return the table when it has another revision, or after a second."""
        ...

    async def look(self, kind: ArtifactKind, name: str) -> RoutingTable:
        """Read one name now, and return the table."""
        ...


class AliasRouter:
    """Resolves references without asking anybody, for names that were asked for before."""

    def __init__(self, follower: Follower, repository: ArtifactRepository) -> None:
        """Know nothing yet; `run` keeps the tables up to date."""
        self._follower, self._repository = follower, repository
        self._tables: dict[ArtifactKind, RoutingTable] = {"adapter": RoutingTable(), "index": RoutingTable()}
        self._asked: dict[ArtifactKind, set[str]] = {"adapter": set(), "index": set()}
        self._versions: dict[tuple[ArtifactKind, str, int], tuple[ArtifactVersion, Manifest]] = {}

    def table(self, kind: ArtifactKind) -> RoutingTable:
        """Return the table of a kind, as it was last heard."""
        return self._tables[kind]

    async def run(self, kind: ArtifactKind) -> None:
        """Follow a kind's table for ever; without a follower the last one stays."""
        while True:
            asked, self._asked[kind] = self._asked[kind], set()
            try:
                self._tables[kind] = await self._follower.table(kind, self._tables[kind].revision, sorted(asked))
            except Exception as error:  # the follower is being replaced
                self._asked[kind] |= asked
                log.warning("the follower does not answer; the last table stays", extra={"reason": repr(error)})
                await asyncio.sleep(PAUSE_S)

    async def resolve(self, kind: ArtifactKind, text: str, subject: str) -> ArtifactVersion:
        """Return the version that a reference means for a subject.

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
        alias = ref.alias or "production"
        live = self._tables[kind].aliases.get((ref.name, alias))
        if live is None or not live.targets:
            live = await self._look(kind, ref.name, alias)
        number = choose(
            ref.name, alias, tuple(Target(version=t.version.version, weight=t.weight) for t in live.targets), subject
        )
        return next(target.version for target in live.targets if target.version.version == number)

    async def version(self, kind: ArtifactKind, name: str, number: int) -> tuple[ArtifactVersion, Manifest]:
        """Return a version by number with its manifest; both never change, and are remembered.

        Raises:
            NotFoundError: there is none.
        """
        key = (kind, name, number)
        if key not in self._versions:
            version = await asyncio.to_thread(self._repository.version, kind, name, number)
            self._versions[key] = version, await asyncio.to_thread(self._repository.manifest, version)
        return self._versions[key]

    async def _look(self, kind: ArtifactKind, name: str, alias: str) -> Route:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                table = await self._follower.look(kind, name)
        except TimeoutError as error:
            raise UnavailableError(f"what {kind} '{name}' is at present is not known yet; try again") from error
        live = table.aliases.get((name, alias))
        if live is None:
            raise NotFoundError(f"{kind} '{name}' has no alias '{alias}'")
        if not live.targets:
            if live.status == "refused":
                raise IntegrityError(f"{kind} {name}@{alias} is refused: {live.reason}")
            raise UnavailableError(f"{kind} {name}@{alias} is being loaded; try again in a moment")
        return live
