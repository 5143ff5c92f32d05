"""Llama deployment: one replica owns one engine."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, nullcontext
from functools import partial
from typing import Any

import psutil
from ray import serve
from ray.serve.handle import DeploymentHandle

from llama_platform.artifacts.location import repository_from
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.device import assigned_device, assigned_gpus
from llama_platform.errors import EngineError
from llama_platform.inference.adapter_holder import AdapterHolder
from llama_platform.inference.adapter_ranks import with_published_rank
from llama_platform.inference.make_engine import engine_kind, make_engine
from llama_platform.inference.protocol import FinishEvent, GenerationRequest, IndexedEvent, TokenEvent
from llama_platform.logs import setup_logging
from llama_platform.models.base_model import load_template
from serve_apps.config import AppConfig
from serve_apps.llama.load_tracker import LoadTracker
from serve_apps.llama.metrics import ReplicaMetrics
from serve_apps.llama.stream_batching import batch_streams
from serve_apps.routing.replica_agent import ReplicaAgent
from serve_apps.routing.replica_status import ReplicaStatus


class LlamaDeployment:
    """Generates for the ingress."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: dict[str, Any], controller: DeploymentHandle
    ) -> None:
        """Load the base and the adapters that aliases name; the replica is ready when this returns.

        Args:
            config: AppConfig as JSON.
            controller: the AliasController.
        """
        setup_logging()
        self._config = AppConfig.model_validate(config)
        self._repository = repository_from(self._config.store, os.environ)
        # Ray sets OMP_NUM_THREADS=1 for replicas with less than one CPU; the engine sets its own count.
        tokenizer, threads = load_template(self._config.base).tokenizer, self._config.llama.num_threads()
        base, engine, self._device = self._config.base, self._config.engine, assigned_device()
        if engine_kind(engine, self._device) == "vllm":
            engine = await asyncio.to_thread(with_published_rank, engine, self._repository)
        load = partial(make_engine, base, tokenizer, threads, engine, self._device, assigned_gpus())
        self._engine = await asyncio.to_thread(load)
        self._load = LoadTracker()
        self._metrics = ReplicaMetrics()
        self._adapters = AdapterHolder(
            self._engine,
            self._repository.fetched,
            lambda outcome: self._metrics.adapter_loads.inc(tags={"outcome": outcome}),
        )
        self._process = psutil.Process()
        self._agent = ReplicaAgent(
            controller,
            "adapter",
            serve.get_replica_context().replica_id.unique_id,
            load=lambda version: self._adapters.load(version, pinned=True),
            release=self._unpin,
            status=self._status,
            spoiled=lambda: self._engine.stats().refused_adapters,
        )
        await self._agent.start()

    async def generate(
        self, requests: Sequence[GenerationRequest], adapter: ArtifactVersion | None
    ) -> AsyncIterator[list[IndexedEvent]]:
        """Yield the events of the answers to `requests`, numbered, with `adapter` loaded first if it is not.

        Raises:
            IntegrityError: the adapter is damaged; it is never loaded.
            UnavailableError: too many requests wait already.
        """
        hold_s = self._config.stream_hold_ms / 1000
        held = self._adapters.held(adapter, requests[0].deadline) if adapter is not None else nullcontext()
        async with held, aclosing(batch_streams([self._answer(r) for r in requests], hold_s)) as batches:
            async for batch in batches:
                yield batch

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the load for the autoscaling policy; plain numbers only, or Serve stops asking."""
        return self._load.stats(self._engine.stats().waiting)

    def record_routing_stats(self) -> dict[str, list[str]]:
        """Return what the router of requests may know: the digests of the adapters that are loaded."""
        return {"adapters": sorted(self._engine.stats().adapters)}

    def check_health(self) -> None:
        """Let Serve replace the replica when its engine has broken for good.

        Raises:
            EngineError: it has.
        """
        if not self._engine.stats().healthy:
            raise EngineError("the engine has broken and needs a restart")

    async def _answer(self, request: GenerationRequest) -> AsyncIterator[TokenEvent | FinishEvent]:
        loop = asyncio.get_running_loop()
        with self._load.request(request) as state:
            async with aclosing(self._engine.generate(request)) as events:  # type: ignore[type-var]
                async for event in events:
                    state.note(event, loop.time())
                    if isinstance(event, FinishEvent):
                        self._load.note_wait(event.timings.queue_s)
                        self._metrics.finished(event)
                        if event.reason == "error":
                            raise EngineError(event.error or "the engine failed")
                    yield event

    async def _unpin(self, version: ArtifactVersion) -> None:
        self._adapters.unpin(version)

    def _status(self) -> ReplicaStatus:
        """Return what `/health` and `/model/info` show of this replica."""
        stats = self._engine.stats()
        self._metrics.load(stats)
        load = self._load.stats(stats.waiting)
        return ReplicaStatus(
            context_length=self._engine.context_length,
            healthy=stats.healthy,
            engine=engine_kind(self._config.engine, self._device),
            products=dict(stats.products),
            cuda_available=self._device.type == "cuda",
            memory={"resident_bytes": self._process.memory_info().rss, **stats.memory},
            failed_steps=stats.failures,
            running=stats.running,
            waiting=stats.waiting,
            tokens_in_flight=load["tokens_in_flight"],
            queue_wait_s=load["queue_wait_s"],
            response_s=load["response_s"],
            adapters_loaded=stats.adapters,
            adapters_refused=dict(stats.refused_adapters),
            completion_tokens=stats.completion_tokens,
        )
