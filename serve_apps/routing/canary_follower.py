"""CanaryFollower: looks at the canaries that run, and lets each do what its counts say."""

import asyncio
import logging

from llama_platform.artifacts.repository import ArtifactRepository
from llama_platform.canary.conduct import Conductor
from llama_platform.canary.plan import Canary, running_canaries
from llama_platform.errors import PlatformError
from serve_apps.routing.reconcile import Reconciler

log = logging.getLogger(__name__)
INTERVAL_S = 3.0
"""How often they are looked at."""


class CanaryFollower:
    """Of one application. Its state is in the store alone: whoever follows next goes on."""

    def __init__(self, repository: ArtifactRepository, routes: Reconciler) -> None:
        """Begin.

        Args:
            repository: holds the adapters and their canaries.
            routes: tells which versions replicas refuse.
        """
        self._repository, self._routes = repository, routes

    async def run(self) -> None:
        """Follow for ever; what cannot be read or written now is tried again."""
        while True:
            try:
                running, problems = await asyncio.to_thread(running_canaries, self._repository.store)
            except PlatformError as error:  # the store is away: what runs stays as it is
                running, problems = [], [str(error)]
            else:
                self._routes.set_canaries((canary.name, canary.alias) for canary in running)
            for problem in problems:
                log.warning("a canary cannot be followed now", extra={"reason": problem})
            for canary in running:
                await self._followed(canary)
            await asyncio.sleep(INTERVAL_S)

    async def _followed(self, canary: Canary) -> None:
        """Follow one canary; what goes wrong with it keeps no other waiting."""
        facts = {"artifact": canary.name, "alias": canary.alias}
        try:
            await self._follow(canary)
        except PlatformError as error:
            log.warning("a canary cannot be followed now", extra={**facts, "reason": str(error)})
        except Exception:  # following must go on, whatever one canary meets
            log.exception("following a canary failed", extra=facts)

    async def _follow(self, canary: Canary) -> None:
        conductor = Conductor(self._repository, canary.name, canary.alias)
        route = self._routes.table.aliases.get((canary.name, canary.alias))
        split = canary.periods[-1].generation if canary.periods else None
        unfit = (route.reason or "").startswith(f"version {canary.candidate}:") if route is not None else False
        if route is not None and route.since == split and route.status == "refused" and unfit:
            after = await asyncio.to_thread(conductor.refuse, f"it must not answer: {route.reason}")
        else:
            after = await asyncio.to_thread(conductor.step)
        if (after.status, len(after.periods)) != (canary.status, len(canary.periods)):
            facts = {"artifact": canary.name, "alias": canary.alias, "version": canary.candidate}
            log.info("canary", extra={**facts, "status": after.status, "reason": after.reason})
