"""Ingress: HTTP in front, the other deployments behind their handles."""

import asyncio
import logging
import os
from typing import Any

from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

from llama_platform.access.keys import AccessDocument
from llama_platform.access.meter import Meter
from llama_platform.access.oidc import TokenVerifier
from llama_platform.access.quotas import MEMORY
from llama_platform.access.replies import RepliesInMemory, RepliesInRedis
from llama_platform.artifacts.location import repository_from
from llama_platform.artifacts.repository import ArtifactRepository
from llama_platform.errors import PlatformError
from llama_platform.feedback.book import FeedbackBook
from llama_platform.logs import setup_logging
from llama_platform.models.base_model import load_template
from serve_apps.api.access import check_token_file
from serve_apps.api.application import LEASE_MARGIN_S, make_api
from serve_apps.api.auditing import Auditor
from serve_apps.api.conversations import Conversations
from serve_apps.api.state import AppState
from serve_apps.api.tracing import make_tracer
from serve_apps.config import AppConfig
from serve_apps.generation.moderator import AdapterModerator
from serve_apps.generation.safety import Safety
from serve_apps.generation.service import GenerationService
from serve_apps.ingress.exposure import check_exposure
from serve_apps.ingress.index_jobs import RayIndexJobs
from serve_apps.ingress.ledgers import Ledgers
from serve_apps.ingress.metrics import IngressMetrics
from serve_apps.ingress.remote import RemoteController, RemoteGenerator, RemoteRetriever
from serve_apps.routing.key_book import KeyBook
from serve_apps.routing.router import AliasRouter
from serve_apps.routing.table import KINDS
from serve_apps.worker_pools import WorkerPools

log = logging.getLogger(__name__)
RESUME_TIMEOUT_S = 120.0
SHOW_S = 5.0
"""How often gauges that nothing else sets are shown, in seconds."""


class Ingress:
    """The deployment that Serve's proxy sends requests to."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        config: dict[str, Any],
        llama: DeploymentHandle,
        retriever: DeploymentHandle | None,
        controller: DeploymentHandle,
    ) -> None:
        """Load the tokenizer, and follow the routing tables.

        Args:
            config: AppConfig as JSON.
            llama: handle of the Llama deployment.
            retriever: handle of the retriever deployment; None where retrieval is off.
            controller: handle of the AliasController.
        """
        setup_logging()
        parsed = AppConfig.model_validate(config)
        repository = repository_from(parsed.store, os.environ)
        pools = WorkerPools()
        router = AliasRouter(RemoteController(controller), repository, pools)
        template = await asyncio.to_thread(load_template, parsed.base)
        generator = RemoteGenerator(llama)
        generation = GenerationService(parsed, template, router, generator)
        if parsed.safety.moderator.adapter is not None:
            generation.moderator = AdapterModerator(generation, parsed.safety.moderator)
        searcher = RemoteRetriever(retriever) if retriever is not None else None
        jobs = RayIndexJobs(parsed)
        await asyncio.to_thread(check_exposure, parsed.auth)
        keys = tokens = None
        if parsed.auth.mode != "none":
            if "oidc" in parsed.auth.mode:
                tokens = TokenVerifier(parsed.auth.oidc, parsed.tenant_defaults())
            keys = KeyBook(RemoteController(controller), parsed.tenant_defaults(), tokens)
            if "keys" not in parsed.auth.mode:
                keys.document = AccessDocument()  # no key is taken, and none is waited for
        limits = parsed.limits
        meter = Meter(limits.storage, limits.on_failure, limits.request_timeout_s + LEASE_MARGIN_S)
        self._ledgers = await asyncio.to_thread(Ledgers, parsed, repository.store, generation.fingerprint)
        conversations = Conversations(FeedbackBook(repository.store), parsed, pools)
        self._state = AppState(
            parsed,
            repository,
            router,
            generation,
            searcher,
            jobs,
            pools,
            meter=meter,
            usage=self._ledgers.usage,
            splits=self._ledgers.splits,
            safety=Safety(parsed.safety),
            replies=RepliesInMemory() if limits.storage == MEMORY else RepliesInRedis(limits.storage),
            auditor=Auditor(self._ledgers.journal, parsed.audit, generation.fingerprint),
            breakers=[one.breaker for one in (generator, searcher, pools, meter) if one is not None],
            keys=keys,
            tracer=make_tracer(os.environ),
            conversations=conversations,
        )
        check_token_file(parsed)
        log.info("the application starts", extra={"store": repository.store.root})
        self._following = [asyncio.ensure_future(router.run(kind)) for kind in KINDS]
        if keys is not None and "keys" in parsed.auth.mode:
            self._following.append(asyncio.ensure_future(keys.run()))
        if tokens is not None:
            self._following.append(asyncio.ensure_future(tokens.run()))
        self._following += [asyncio.ensure_future(run(pools)) for run in (self._ledgers.run, self._ledgers.run_splits)]
        if parsed.feedback.enabled:
            self._following.append(asyncio.ensure_future(conversations.run()))
        self._metrics = IngressMetrics()
        self._following.append(asyncio.ensure_future(self._show_breakers()))
        self._resuming = asyncio.ensure_future(_resume(pools, jobs, repository))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the HTTP application; Serve asks for it when the replica starts."""
        return make_api(self._state, self._metrics)

    async def __del__(self) -> None:
        """Write what is not in the store yet; Serve awaits this when it stops the replica."""
        if not hasattr(self, "_state"):  # its start has failed
            return
        if not self._state.drain.begun:
            await self._write_out()
        await self._state.meter.close()

    async def _write_out(self) -> None:
        if self._state.conversations is not None:
            await self._state.conversations.written()
        await self._ledgers.close()
        await asyncio.to_thread(self._state.tracer.close)

    async def _show_breakers(self) -> None:
        while True:
            self._metrics.breakers({breaker.name: breaker.state for breaker in self._state.breakers})
            await asyncio.sleep(SHOW_S)

    async def drain(self, seconds: float) -> int:
        """Say at `/health/ready` that it goes, wait until what has begun has ended, and write what is not stored yet.

        Args:
            seconds: how long requests may take at most.

        Returns:
            How many requests have not ended.
        """
        left = await self._state.drain.wait(seconds)
        await self._write_out()
        return left

    def check_health(self) -> None:
        """Let Serve replace the ingress where it no longer follows the tables.

        Raises:
            RuntimeError: it does not.
        """
        for task in self._following:
            if task.done():
                raise RuntimeError(f"following the routing tables has ended: {task.exception()}")


async def _resume(pools: WorkerPools, jobs: RayIndexJobs, repository: ArtifactRepository) -> None:
    """Submit the changes of indexes that a restart of Ray has left waiting in the store."""
    try:
        submitted = await pools.store(jobs.resume, repository, timeout_s=RESUME_TIMEOUT_S)
    except PlatformError as error:
        log.warning("changes of indexes that wait in the store were not looked for", extra={"reason": str(error)})
    else:
        if submitted:
            log.info("changes of indexes that waited in the store are submitted", extra={"jobs": submitted})
