"""Batch answers: shards of records in, committed shards of answers out.

Durable by order: the plan of the batch, then the records of each shard, then its answers, each written only where
nothing is. A shard of answers is there whole or not at all, and one that is there is never computed again.
"""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.artifacts.repository import ArtifactVersion, parse_ref
from llama_platform.config import Config
from llama_platform.data.records import BrokenRecord, Record, open_sources, read_records
from llama_platform.errors import ConflictError, EngineError, InputError, PlatformError
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.protocol import FinishEvent, GenerationRequest
from llama_platform.inference.requests import PredictRequest
from llama_platform.models.base_model import BaseConfig, load_template
from llama_platform.storage.base import ObjectStore, PreconditionFailedError
from llama_platform.storage.open_store import open_store

Positive = Annotated[int, Field(ge=1)]
PLAN = "batch.json"


class BatchConfig(Config):
    """A batch of records to be answered."""

    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    """JSON-lines files, folders of them, and `s3://` prefixes."""
    output: str
    """Folder or `s3://bucket/folder` for the answers; one for each batch."""
    store: StoreConfig = StoreConfig()
    base: BaseConfig = BaseConfig()
    adapter: str | None = None
    """Answers records that name none: `name`, `name@alias` or `name@3`. None for the base alone."""
    engine: EngineConfig = EngineConfig(max_waiting=256)
    shard_records: Positive = 128
    """Records that are answered and committed together."""
    workers: Positive = 1
    """Engines at work."""
    num_cpus: Annotated[float, Field(gt=0)] = 1
    num_gpus: Annotated[float, Field(ge=0)] = 0
    threads: Positive | None = None
    """Threads of computation of a worker; None for the whole number of its CPUs, at least 1."""


@dataclass(slots=True)
class BatchProgress:
    """How far a batch is."""

    all_shards: int
    shards: int = 0
    kept_shards: int = 0
    """Shards that an earlier run had committed."""
    rows: int = 0
    errors: int = 0
    tokens: int = 0
    """Generated."""
    tokens_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What is left of a batch."""

    pending: tuple[int, ...]
    """Shards that nobody has answered."""
    progress: BatchProgress
    """With the others counted."""


def prepare(config: BatchConfig) -> Batch:
    """Write the plan and the records of what is left; Ray is not needed for this.

    Raises:
        InputError: the sources cannot be read, or hold no records.
        ConflictError: the output holds another batch.
        StorageError: something could not be written.
    """
    output = open_output(config.output)
    total, committed = _plan(config, output), set(output.list_keys("shard-"))
    kept = [number for number in range(total) if _answers(number) in committed]
    pending = tuple(sorted(set(range(total)) - set(kept)))
    _stage(config, output, set(pending))
    progress = BatchProgress(total, shards=len(kept), kept_shards=len(kept))
    for number in kept:
        _count(progress, (json.loads(line) for line in output.read(_answers(number)).content.splitlines()))
    return Batch(pending, progress)


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
        concurrency=min(config.workers, len(pending)), num_cpus=config.num_cpus, num_gpus=config.num_gpus or None,
    )  # fmt: skip
    for row in answered.iter_rows():
        progress.shards += 1
        progress.rows += int(row["rows"])
        progress.errors += int(row["errors"])
        progress.tokens += int(row["tokens"])
        progress.tokens_per_s = (progress.tokens - tokens) / (time.monotonic() - start)
        on_progress(progress)


def open_output(output: str) -> ObjectStore:
    """Return the store at a folder or URI."""
    return open_store(output if "://" in output else Path(output).absolute().as_uri())


class ShardWorker:
    """One engine, answering shard after shard; Ray Data starts it as an actor."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Load the engine.

        Args:
            config: BatchConfig as JSON.
        """
        from llama_platform.inference.make_engine import make_engine

        self._config = BatchConfig.model_validate(config)
        self._output = open_output(self._config.output)
        self._repository = repository_from(self._config.store, os.environ)
        self._template = load_template(self._config.base)
        threads = self._config.threads or max(1, int(self._config.num_cpus))
        self._engine = make_engine(self._config.base, self._template.tokenizer, threads, self._config.engine)
        self._versions: dict[str, ArtifactVersion] = {}
        self._loop = asyncio.new_event_loop()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Answer the records of a shard and commit them; return what was counted."""
        (number,) = (int(value) for value in batch["shard"])
        lines = self._output.read(_records(number)).content.splitlines()
        answers = self._loop.run_until_complete(self._answer([json.loads(line) for line in lines]))
        content = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers).encode()
        with suppress(PreconditionFailedError):  # a worker that was taken for lost has committed it
            self._output.write(_answers(number), content, if_absent=True)
        self._output.delete(_records(number))
        counted = BatchProgress(1)
        _count(counted, answers)
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
            prompt = tuple(self._template.encode_prompt(asked.to_messages()))
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
            text, finish = await self._generate(request)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "record"
            return answer | _error("invalid_input", f"{field}: {first['msg'].removeprefix('Value error, ')}")
        except EngineError:
            raise  # the engine itself has broken: this says nothing of the record
        except PlatformError as error:
            return answer | _error(error.code, str(error))
        model = {"adapter": adapter.name, "version": adapter.version, "digest": adapter.digest} if adapter else None
        usage = {
            "prompt_tokens": finish.usage.prompt_tokens,
            "completion_tokens": finish.usage.completion_tokens,
        }
        return answer | {"text": text, "finish_reason": finish.reason, "usage": usage, "model": model}

    async def _generate(self, request: GenerationRequest) -> tuple[str, FinishEvent]:
        texts: list[str] = []
        events: AsyncIterator[Any] = self._engine.generate(request)
        async for event in events:
            if isinstance(event, FinishEvent):
                if event.reason == "error":
                    raise EngineError(event.error or "the engine failed")
                return "".join(texts).strip(), event
            texts.append(event.text)
        raise EngineError("the engine ended an answer without saying so")

    async def _adapter(self, name: str | None) -> ArtifactVersion | None:
        if name is None or name == "base":
            return None
        if name not in self._versions:  # for a whole batch: an alias that moves meanwhile must not split it
            ref = parse_ref(name)
            version = await asyncio.to_thread(Aliases(self._repository, "adapter", ref.name).resolve, ref, "batch")
            folder = await asyncio.to_thread(self._repository.fetch, version)
            await self._engine.load_adapter(version.digest, folder)
            self._versions[name] = version
        return self._versions[name]


def _plan(config: BatchConfig, output: ObjectStore) -> int:
    """Write what this batch is, or check that the output is of the same; return how many shards it has."""
    settings = config.model_dump(mode="json", include={"base", "adapter", "shard_records"})
    digest, shards = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()), 0
    for shard in _shards(config):
        digest.update(shard)
        shards += 1
    if not shards:
        raise InputError(f"{', '.join(config.sources)}: no records")
    plan = json.dumps({"digest": digest.hexdigest(), "shards": shards}).encode()
    try:
        output.write(PLAN, plan, if_absent=True)
    except PreconditionFailedError as error:
        if output.read(PLAN).content != plan:
            raise ConflictError(
                f"{config.output} holds the answers of other records or settings; choose another output"
            ) from error
    return shards


def _stage(config: BatchConfig, output: ObjectStore, pending: set[int]) -> None:
    """Write the records of pending shards beside the answers, where every worker finds them."""
    for number, shard in enumerate(_shards(config)):
        if number in pending:
            with suppress(PreconditionFailedError):
                output.write(_records(number), shard, if_absent=True)


def _shards(config: BatchConfig) -> Iterator[bytes]:
    """Yield the records, numbered, as JSON lines of a shard each."""
    with open_sources(config.sources) as files:
        rows = (row for file in files for row in map(_row, read_records(file)))
        lines = (json.dumps({"record": n, **row}, ensure_ascii=False) + "\n" for n, row in enumerate(rows))
        while shard := list(islice(lines, config.shard_records)):
            yield "".join(shard).encode()


def _row(found: Record | BrokenRecord) -> dict[str, Any]:
    if isinstance(found, BrokenRecord):
        return {"problem": f"{found.where}: {found.problem}"}
    if not isinstance(found.value, dict):
        return {"problem": f"{found.where}: a record is an object with 'prompt' or 'messages'"}
    value = dict(found.value)
    return {"id": value.pop("id", None), "value": value}


def _count(progress: BatchProgress, answers: Iterable[dict[str, Any]]) -> None:
    for answer in answers:
        progress.rows += 1
        progress.errors += "error" in answer
        progress.tokens += answer.get("usage", {}).get("completion_tokens", 0)


def _error(code: str, detail: str) -> dict[str, Any]:
    return {"error": {"code": code, "detail": detail}}


def _answers(number: int) -> str:
    return f"shard-{number:06d}.jsonl"


def _records(number: int) -> str:
    return f"records/{number:06d}.jsonl"
