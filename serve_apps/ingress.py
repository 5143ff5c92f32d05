"""Ingress: HTTP in front, deployment handles inside. Checks, resolves, renders, and hands on."""

import asyncio
import importlib.metadata
import logging
import os
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from llama_platform import __version__
from llama_platform.artifacts.location import repository_from
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import DeadlineError, InputError, IntegrityError, NotFoundError, UnavailableError
from llama_platform.inference.engine import FinishEvent, GenerationRequest
from llama_platform.logs import setup_logging
from llama_platform.models.base_model import load_template
from llama_platform.models.prompt import Message
from rag.prompt import build_messages, fit_sources
from serve_apps.adapter_list import list_adapters
from serve_apps.alias_table import AliasTable
from serve_apps.config import AppConfig
from serve_apps.http_errors import install
from serve_apps.request_guard import RequestGuard
from serve_apps.retriever_deployment import Found
from serve_apps.schemas import GenerationFields, PredictRequest, PredictResponse, RagRequest, RagResponse
from serve_apps.sse import Event, event_stream

log = logging.getLogger(__name__)
PROBE_TIMEOUT_S = 2.0
BUSY_GRACE_S = 30
NO_REPLICA = "no replica has answered; it may still be loading its model"
VERSIONS = ("ray", "torch", "transformers", "peft")
routes = APIRouter()


def make_api(max_body_bytes: int) -> FastAPI:
    """Return the HTTP application around the routes."""
    api = FastAPI(title="llama-platform", version=__version__)
    install(api)
    api.add_middleware(RequestGuard, max_body_bytes=max_body_bytes)
    api.include_router(routes)
    return api


@dataclass(frozen=True, slots=True)
class Task:
    """A checked request, ready for a replica."""

    request: GenerationRequest
    adapter: ArtifactVersion | None
    extra: dict[str, Any]
    """What the answer carries besides: sources and index of a question to the documents."""


class Ingress:
    """The routes; `serve_apps.app` puts them behind Serve's proxy."""

    def __init__(self, config: dict[str, Any], llama: DeploymentHandle, retriever: DeploymentHandle | None) -> None:
        """Load the tokenizer.

        Args:
            config: AppConfig as JSON.
            llama: handle of the Llama deployment.
            retriever: handle of the retriever deployment; None where retrieval is off.
        """
        setup_logging()
        self._config = AppConfig.model_validate(config)
        self._llama, self._retriever = llama, retriever
        self._repository = repository_from(self._config.store, os.environ)
        self._adapters = AliasTable(self._repository, "adapter", self._config.alias_ttl_s)
        self._template = load_template(self._config.base)
        self._fingerprint = self._template.fingerprint()
        self._context: int | None = None
        self._reported: tuple[float, dict[str, Any]] | None = None

    @routes.get("/health/live")
    async def live(self) -> dict[str, str]:
        """Answer while the ingress runs."""
        return {"status": "ok"}

    @routes.get("/health/ready")
    async def ready(self) -> dict[str, str]:
        """Answer 200 if a replica is ready, or if none need be."""
        return {"status": (await self._report())["status"]}

    @routes.get("/health")
    async def health(self) -> Response:
        """Tell status, model, CUDA and memory, as a replica reports them."""
        try:
            report = await self._report()
        except UnavailableError:
            return JSONResponse({"status": "degraded", "model_loaded": False}, 503)
        keys = ("status", "model_loaded", "cuda_available", "memory", "running", "waiting", "failed_steps")
        return JSONResponse({key: report[key] for key in keys if key in report})

    @routes.get("/model/info")
    async def model_info(self) -> dict[str, Any]:
        """Tell base, adapters with versions and digests, prompt fingerprint, and versions of the software."""
        info = await self._report()
        return {
            "base": self._config.base.model,
            "prompt_style": self._template.style,
            "prompt_fingerprint": self._fingerprint,
            "default_adapter": self._config.adapter,
            "adapters": await asyncio.to_thread(list_adapters, self._repository),
            "replica": info,
            "versions": {"llama-platform": __version__} | {n: importlib.metadata.version(n) for n in VERSIONS},
        }

    @routes.post("/predict", response_model=PredictResponse)
    async def predict(self, body: PredictRequest, request: Request) -> Any:
        """Answer a prompt or messages; with `stream`, as server-sent events."""
        return await self._answer(body, request, self._predict_task(body, request.state.request_id), "text")

    @routes.post("/rag", response_model=RagResponse)
    async def rag(self, body: RagRequest, request: Request) -> Any:
        """Answer a question from the documents, with its sources."""
        return await self._answer(body, request, self._rag_task(body, request.state.request_id), "answer")

    async def _answer(self, body: GenerationFields, request: Request, task: Any, text_key: str) -> Any:
        request_id, timeout_s = request.state.request_id, self._config.limits.request_timeout_s
        events = self._events(task, time.time() + timeout_s)
        if body.stream:
            # The first event comes before the response starts, so that what is refused has its own status.
            first = await anext(events)
            return event_stream(first, events, request_id)
        texts: list[str] = []
        async for name, value in events:
            if name == "token":
                texts.append(value["text"])
        # The last event is always `done`: everything else has raised.
        return JSONResponse({"id": request_id, text_key: "".join(texts).strip(), **value})

    async def _events(self, making: Any, deadline: float) -> AsyncGenerator[Event, None]:
        # One wait per event rather than one timeout around all: a stream is read from another task than it began in.
        async def within(awaitable: Any) -> Any:
            try:
                return await asyncio.wait_for(awaitable, max(deadline - time.time(), 0))
            except TimeoutError as error:
                raise DeadlineError(_too_slow(self._config)) from error

        task: Task = await within(making)
        if "sources" in task.extra:
            yield "sources", {"sources": task.extra["sources"]}
        request = replace(task.request, deadline=deadline)
        stream = self._llama.options(stream=True).generate.remote(request, task.adapter)
        try:
            while True:
                event = await within(anext(stream))
                if isinstance(event, FinishEvent):
                    yield "done", self._done(task, event)
                    return
                yield "token", {"text": event.text}
        finally:
            stream.cancel()

    def _done(self, task: Task, finish: FinishEvent) -> dict[str, Any]:
        if finish.reason == "deadline":
            raise DeadlineError(_too_slow(self._config))
        usage, timings = finish.usage, finish.timings
        first = timings.first_token_s
        return {
            "finish_reason": finish.reason,
            **task.extra,
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
            "model": {
                "base": self._config.base.model,
                "adapter": task.adapter.name if task.adapter else None,
                "version": task.adapter.version if task.adapter else None,
                "digest": task.adapter.digest if task.adapter else None,
                "prompt_fingerprint": self._fingerprint,
            },
            "timings": {
                "queue_ms": round(timings.queue_s * 1000, 1),
                "first_token_ms": None if first is None else round(first * 1000, 1),
                "total_ms": round(timings.total_s * 1000, 1),
            },
        }

    async def _predict_task(self, body: PredictRequest, request_id: str) -> Task:
        return await self._task(body, body.to_messages(), body.adapter or self._config.adapter, request_id, {})

    async def _rag_task(self, body: RagRequest, request_id: str) -> Task:
        name = body.index or self._config.index
        if self._retriever is None or name is None:
            raise NotFoundError("retrieval is switched off: the application's configuration names no index")
        found: Found = await self._retriever.search.remote(name, body.question, body.top_k, body.user or request_id)
        limits = self._config.limits
        room = min(limits.max_rag_prompt_tokens, await self._context_length() - body.max_new_tokens)

        def count(messages: list[Message]) -> int:
            return len(self._template.encode_prompt(messages))

        hits = await asyncio.to_thread(fit_sources, body.question, found.hits, room, count)
        if found.hits and not hits:
            raise InputError(f"question: no source fits beside it into {room} tokens; ask for fewer max_new_tokens")
        sources = [
            {
                "n": number,
                "document": hit.chunk.document,
                "title": hit.chunk.title,
                "heading": hit.chunk.heading,
                "chunk": hit.row,
                "score": hit.score,
                "text": hit.chunk.text,
                "span": (hit.chunk.start, hit.chunk.end),
            }
            for number, hit in enumerate(hits, 1)
        ]
        version = found.version
        index = {"name": version.name, "version": version.version, "digest": version.digest}
        extra = {"sources": sources, "index": index}
        adapter = body.adapter or self._config.rag_adapter or self._config.adapter
        return await self._task(body, build_messages(body.question, hits), adapter, request_id, extra)

    async def _task(
        self,
        body: GenerationFields,
        messages: list[Message],
        adapter_name: str | None,
        request_id: str,
        extra: dict[str, Any],
    ) -> Task:
        limit = self._config.limits.max_new_tokens
        if body.max_new_tokens > limit:
            raise InputError(f"max_new_tokens: {body.max_new_tokens} is over the limit of {limit}")
        adapter = await self._resolve(adapter_name, body.user or request_id)
        prompt_ids = await asyncio.to_thread(self._template.encode_prompt, messages)
        context = await self._context_length()
        if len(prompt_ids) + body.max_new_tokens > context:
            raise InputError(
                f"the prompt has {len(prompt_ids)} tokens; with max_new_tokens {body.max_new_tokens} that is over "
                f"the context of {context}"
            )
        request = GenerationRequest(
            request_id=request_id,
            prompt_ids=tuple(prompt_ids),
            sampling=body.sampling(self._template.stop_strings()),
            adapter_digest=adapter.digest if adapter else None,
        )
        return Task(request, adapter, extra)

    async def _resolve(self, name: str | None, subject: str) -> ArtifactVersion | None:
        if name is None or name == "base":
            return None
        version, manifest = await self._adapters.resolve(name, subject)
        taught = manifest.metadata.get("prompt_fingerprint")
        if taught is not None and taught != self._fingerprint:
            raise IntegrityError(
                f"adapter {version.name}@{version.version} was trained with another prompt (fingerprint {taught[:12]}) "
                f"than this server renders ({self._fingerprint[:12]}): check base and prompt style"
            )
        return version

    async def _context_length(self) -> int:
        if self._context is None:
            try:
                info = await asyncio.wait_for(self._llama.info.remote(), self._config.limits.request_timeout_s)
            except TimeoutError as error:
                raise UnavailableError(NO_REPLICA) from error
            self._context = int(info["context_length"])
        return self._context

    async def _report(self) -> dict[str, Any]:
        """Return what a replica says of itself; of one that is too busy to answer, what it said a moment ago."""
        if self._config.llama.min_replicas == 0 and self._reported is None:
            return {"status": "cold", "model_loaded": False}  # asking would start a replica
        try:
            info: dict[str, Any] = await asyncio.wait_for(self._llama.info.remote(), PROBE_TIMEOUT_S)
        except (TimeoutError, BackPressureError) as error:
            said_at, info = self._reported or (0.0, {})
            if not info or time.monotonic() - said_at > BUSY_GRACE_S:
                raise UnavailableError(NO_REPLICA) from error
        except Exception as error:  # a health route must not fail with what it reports on
            raise UnavailableError(NO_REPLICA) from error
        else:
            self._reported = (time.monotonic(), info)
        return {"status": "ok" if info["healthy"] else "degraded", **info}


def _too_slow(config: AppConfig) -> str:
    return f"no answer within {config.limits.request_timeout_s:g} s; the work was stopped"
