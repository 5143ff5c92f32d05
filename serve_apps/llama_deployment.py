"""Llama deployment: one replica owns one engine."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import psutil
import torch

from llama_platform.artifacts.location import repository_from
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import EngineError
from llama_platform.inference.engine import FinishEvent, GenerationRequest, TokenEvent
from llama_platform.inference.torch_engine.engine import TorchEngine
from llama_platform.logs import setup_logging
from llama_platform.models.base_model import load_template
from serve_apps.config import AppConfig


class LlamaDeployment:
    """Generates for the ingress."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Load the base; the replica is ready when this returns.

        Args:
            config: AppConfig as JSON.
        """
        setup_logging()
        self._config = AppConfig.model_validate(config)
        self._repository = repository_from(self._config.store, os.environ)
        tokenizer = load_template(self._config.base).tokenizer
        # Ray sets OMP_NUM_THREADS=1 for replicas with less than one CPU; the engine sets its own count.
        threads = self._config.llama.num_threads()
        self._engine = TorchEngine(self._config.base, tokenizer, threads, self._config.engine)
        self._loading = asyncio.Lock()

    async def generate(
        self, request: GenerationRequest, adapter: ArtifactVersion | None
    ) -> AsyncIterator[TokenEvent | FinishEvent]:
        """Yield the answer, with `adapter` loaded first if it is not.

        Raises:
            IntegrityError: the adapter is damaged; it is never loaded.
        """
        if adapter is not None:
            await self._load(adapter)
        async with aclosing(self._engine.generate(request)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, FinishEvent) and event.reason == "error":
                    raise EngineError(event.error or "the engine failed")
                yield event

    def check_health(self) -> None:
        """Let Serve replace the replica when its engine has broken for good.

        Raises:
            EngineError: it has.
        """
        if not self._engine.stats().healthy:
            raise EngineError("the engine has broken and needs a restart")

    async def info(self) -> dict[str, Any]:
        """Return what `/health` and `/model/info` show of this replica."""
        stats = self._engine.stats()
        process = psutil.Process()
        return {
            "model_loaded": True,
            "context_length": self._engine.context_length,
            "cuda_available": torch.cuda.is_available(),
            "memory": {"resident_bytes": process.memory_info().rss, **stats.memory},
            "healthy": stats.healthy,
            "failed_steps": stats.failures,
            "running": stats.running,
            "waiting": stats.waiting,
            "adapters_loaded": list(stats.adapters),
            "completion_tokens": stats.completion_tokens,
        }

    async def _load(self, adapter: ArtifactVersion) -> None:
        async with self._loading:  # one download of an adapter is enough
            if adapter.digest not in self._engine.stats().adapters:
                folder = await asyncio.to_thread(self._repository.fetch, adapter)
                await self._engine.load_adapter(adapter.digest, folder)
