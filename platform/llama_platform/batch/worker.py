"""Shard workers: engines that answer the shards of a batch, started by Ray Data as actors."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext, suppress
from typing import Any

from pydantic import ValidationError

from llama_platform.artifacts.location import repository_from
from llama_platform.artifacts.refs import BASE, resolve
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.batch.plan import Batch, BatchConfig, BatchProgress, answers_key, count, open_output, records_key
from llama_platform.errors import BlockedError, EngineError, InputError, PlatformError, StorageError, UnavailableError
from llama_platform.inference.adapter_holder import AdapterHolder
from llama_platform.inference.protocol import FinishEvent, GenerationRequest
from llama_platform.inference.requests import PredictRequest
from llama_platform.models.base_model import load_template
from llama_platform.models.prompt import STRIPS
from llama_platform.safety.chat import screen_messages
from llama_platform.safety.rules import RuleSet
from llama_platform.safety.stream_filter import screen
from llama_platform.storage.base import PreconditionFailedError


def answer_all(config: BatchConfig, batch: Batch, on_progress: Callable[[BatchProgress], None]) -> None:
    """Answer what is left of a batch; Ray must be connected.

    Args:
        config: the batch.
        batch: as `prepare` found it; its progress goes on.
        on_progress: called after each shard.

    Raises:
        StorageError: something could not be written; run again to go on.
    """
    import ray.data

    progress, pending = batch.progress, batch.pending
    ray.data.DataContext.get_current().enable_progress_bars = False
    start, tokens = time.monotonic(), progress.tokens
    shards = ray.data.from_items([{"shard": number} for number in pending], override_num_blocks=len(pending))
    answered = shards.map_batches(
        ShardWorker, fn_constructor_args=(config.model_dump(mode="json"),), batch_size=1, batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=min(config.workers, len(pending))),
        num_cpus=config.num_cpus, num_gpus=config.num_gpus or None,
    )  # fmt: skip
    for row in answered.iter_rows():
        progress.shards += 1
        progress.rows += int(row["rows"])
        progress.errors += int(row["errors"])
        progress.tokens += int(row["tokens"])
        progress.tokens_per_s = (progress.tokens - tokens) / (time.monotonic() - start)
        on_progress(progress)


class ShardWorker:
    """One engine, answering shard after shard; Ray Data starts it as an actor."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Load the engine.

        Args:
            config: BatchConfig as JSON.
        """
        from llama_platform.device import assigned_device, assigned_gpus
        from llama_platform.inference.adapter_ranks import with_published_rank
        from llama_platform.inference.make_engine import engine_kind, make_engine

        self._config = BatchConfig.model_validate(config)
        self._output = open_output(self._config.output)
        self._repository = repository_from(self._config.store, os.environ)
        self._template = load_template(self._config.base)
        threads = self._config.threads or max(1, int(self._config.num_cpus))
        base, engine, device = self._config.base, self._config.engine, assigned_device()
        if engine_kind(engine, device) == "vllm":
            engine = with_published_rank(engine, self._repository)
        self._engine = make_engine(base, self._template.tokenizer, threads, engine, device, assigned_gpus())
        self._adapters = AdapterHolder(self._engine, self._repository.fetched)
        self._rules = RuleSet.read(self._config.safety.rules)
        self._versions: dict[str, ArtifactVersion] = {}
        self._loop = asyncio.new_event_loop()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Answer the records of a shard and commit them; return what was counted."""
        (number,) = (int(value) for value in batch["shard"])
        lines = self._output.read(records_key(number)).content.splitlines()
        answers = self._loop.run_until_complete(self._answer([json.loads(line) for line in lines]))
        content = "".join(json.dumps(answer) + "\n" for answer in answers).encode()
        with suppress(PreconditionFailedError):  # a worker that was taken for lost has committed it
            self._output.write(answers_key(number), content, if_absent=True)
        self._output.delete(records_key(number))
        counted = BatchProgress(1)
        count(counted, answers)
        return {"rows": [counted.rows], "errors": [counted.errors], "tokens": [counted.tokens]}

    async def _answer(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        places = asyncio.Semaphore(self._config.engine.max_running + 8)

        async def one(row: dict[str, Any]) -> dict[str, Any]:
            async with places:
                return await self._answer_one(row)

        return list(await asyncio.gather(*(one(row) for row in rows)))

    async def _answer_one(self, row: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {"record": row["record"], "id": row.get("id")}
        if "problem" in row:
            return answer | _error("invalid_input", row["problem"])
        try:
            asked = PredictRequest.model_validate(row["value"])
            adapter = await self._adapter(asked.adapter or self._config.adapter)
            chat = screen_messages(asked.to_messages(), self._rules.of("", "input"), self._config.safety.turns)
            if chat.blocked_by is not None:
                raise BlockedError(f"the record holds what the rule '{chat.blocked_by}' does not allow")
            prompt = tuple(self._template.encode_prompt(chat.messages))
            if len(prompt) + asked.max_new_tokens > self._engine.context_length:
                raise InputError(
                    f"the prompt has {len(prompt)} tokens; with max_new_tokens {asked.max_new_tokens} that is over the "
                    f"context of {self._engine.context_length}"
                )
            request = GenerationRequest(
                request_id=str(row["record"]),
                prompt_ids=prompt,
                sampling=asked.sampling(self._template.stop_strings()),
                adapter_digest=adapter.digest if adapter else None,
            )
            async with self._adapters.held(adapter) if adapter else nullcontext():
                text, finish = await self._generate(request)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "record"
            return answer | _error("invalid_input", f"{field}: {first['msg'].removeprefix('Value error, ')}")
        except (EngineError, StorageError, UnavailableError):
            raise  # the engine or the store, not the record: the shard is answered again
        except PlatformError as error:
            return answer | _error(error.code, str(error))
        screened = screen(text, self._rules.of("", "output"))
        reason = finish.reason if screened.blocked_by is None else "content_filter"
        model = {"adapter": adapter.name, "version": adapter.version, "digest": adapter.digest} if adapter else None
        usage = {
            "prompt_tokens": finish.usage.prompt_tokens,
            "completion_tokens": finish.usage.completion_tokens,
        }
        return answer | {"text": screened.text, "finish_reason": reason, "usage": usage, "model": model}

    async def _generate(self, request: GenerationRequest) -> tuple[str, FinishEvent]:
        texts: list[str] = []
        events: AsyncIterator[Any] = self._engine.generate(request)
        async for event in events:
            if isinstance(event, FinishEvent):
                if event.reason == "error":
                    raise EngineError(event.error or "the engine failed")
                return STRIPS[self._template.style]("".join(texts)), event
            texts.append(event.text)
        raise EngineError("the engine ended an answer without saying so")

    async def _adapter(self, name: str | None) -> ArtifactVersion | None:
        if name is None or name == BASE:
            return None
        if name not in self._versions:  # for a whole batch: an alias that moves meanwhile must not split it
            self._versions[name] = await asyncio.to_thread(resolve, self._repository, "adapter", name, "batch")
        return self._versions[name]


def _error(code: str, detail: str) -> dict[str, Any]:
    return {"error": {"code": code, "detail": detail}}
