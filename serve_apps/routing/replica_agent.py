"""ReplicaAgent: has a replica hold what aliases name, and tells the controller what it holds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from ray.serve.handle import DeploymentHandle

from llama_platform.artifacts.manifest import ArtifactKind
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import PlatformError, StorageError, UnavailableError
from serve_apps.routing.replica_status import ReplicaStatus

log = logging.getLogger(__name__)
FIRST_WORD_TIMEOUT_S = 30.0
"""How long a new replica waits to hear what it should hold."""
PAUSE_S = 0.5


class ReplicaAgent:
    """Loads and releases versions of one kind as the controller asks."""

    def __init__(
        self,
        controller: DeploymentHandle,
        kind: ArtifactKind,
        replica: str,
        *,
        load: Callable[[ArtifactVersion], Awaitable[None]],
        release: Callable[[ArtifactVersion], Awaitable[None]],
        status: Callable[[], ReplicaStatus | None] = lambda: None,
        spoiled: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """Do nothing yet.

        Args:
            controller: the AliasController.
            kind: kind of the artifacts.
            replica: id of this replica.
            load: makes the replica hold a version; a PlatformError refuses it.
            release: lets go of a version that no alias names any more.
            status: returns the replica's present status, where it has one.
            spoiled: returns held versions that have shown themselves unfit since, by digest, with the reason.
        """
        self._controller, self._kind, self._replica = controller, kind, replica
        self._load, self._release, self._status, self._spoiled = load, release, status, spoiled
        self._wanted: dict[str, ArtifactVersion] = {}
        self._held: dict[str, ArtifactVersion] = {}
        self._refused: dict[str, str] = {}
        self._news = asyncio.Event()
        self._loading: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Hold what aliases name now, then follow them; a controller that does not answer is not waited for long."""
        try:
            async with asyncio.timeout(FIRST_WORD_TIMEOUT_S):
                pinned = await self._controller.pinned.remote(self._kind)
        except Exception as error:  # a replica that could answer must not stay down because the controller is
            log.warning("no word of what to hold yet", extra={"reason": repr(error)})
        else:
            self._wanted = {version.digest: version for version in pinned}
            await self._settle()
        self._following = asyncio.ensure_future(self._follow())

    async def _follow(self) -> None:
        revision = -1
        while True:
            self._news.clear()
            holding = {**dict.fromkeys(self._held), **self._refused, **self._spoiled()}
            asking = asyncio.ensure_future(self._ask(revision, holding))
            news = asyncio.ensure_future(self._news.wait())
            await asyncio.wait((asking, news), return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            if not asking.done():
                asking.cancel()  # what has changed here is told at once
                continue
            try:
                revision, pinned = asking.result()
            except Exception as error:  # the controller is being replaced: what is held stays
                log.warning("the controller does not answer", extra={"reason": repr(error)})
                await asyncio.sleep(PAUSE_S)
                continue
            if pinned is not None:
                self._want({version.digest: version for version in pinned})

    async def _ask(
        self, revision: int, holding: dict[str, str | None]
    ) -> tuple[int, tuple[ArtifactVersion, ...] | None]:
        answer: tuple[int, tuple[ArtifactVersion, ...] | None] = await self._controller.follow.remote(
            self._kind, self._replica, revision, holding, self._status()
        )
        return answer

    def _want(self, wanted: dict[str, ArtifactVersion]) -> None:
        if wanted != self._wanted:
            self._wanted = wanted
            self._refused = {digest: reason for digest, reason in self._refused.items() if digest in wanted}
        missing = wanted.keys() - self._held.keys() - self._refused.keys()
        if (missing or self._held.keys() - wanted.keys()) and (self._loading is None or self._loading.done()):
            self._loading = asyncio.ensure_future(self._settle())

    async def _settle(self) -> None:
        """Load what is wanted and missing, in order, then release what is not wanted."""
        for digest, version in list(self._wanted.items()):
            if digest in self._held or digest in self._refused:
                continue
            try:
                await self._load(version)
            except (
                StorageError,
                OSError,
                MemoryError,
            ) as error:  # not the version's fault: tried again
                log.warning("a version cannot be loaded yet", extra={"digest": digest, "reason": repr(error)})
                await asyncio.sleep(PAUSE_S)
                continue
            except UnavailableError as error:  # not now, but that is not held: tried again when all others are
                log.warning("a version cannot be held yet", extra={"digest": digest, "reason": str(error)})
                continue
            except PlatformError as error:
                self._refuse(digest, str(error))
                continue
            except Exception as error:  # whatever one version does to its loading, the others go on
                log.exception("loading has broken", extra={"digest": digest})
                self._refuse(digest, f"it cannot be loaded ({type(error).__name__})")
                continue
            self._held[digest] = version
            self._news.set()
        for digest in [held for held in self._held if held not in self._wanted]:
            await self._let_go(digest)

    async def _let_go(self, digest: str) -> None:
        try:
            await self._release(self._held[digest])
        except Exception:  # one that cannot be released must not keep the others; tried again with the next news
            log.exception("a version cannot be released", extra={"digest": digest})
        else:
            del self._held[digest]

    def _refuse(self, digest: str, reason: str) -> None:
        log.error("a version is refused", extra={"digest": digest, "reason": reason})
        self._refused[digest] = reason
        self._news.set()
