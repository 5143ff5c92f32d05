"""Batch plan: which shards of records there are, and which have committed answers.

Durable by order: the plan of the batch, then the records of each shard, then its answers, each written only where
nothing is. A shard of answers is there whole or not at all, and one that is there is never computed again.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from llama_platform.artifacts.location import StoreConfig, in_rays_copy
from llama_platform.config import Config
from llama_platform.data.reading.records import BrokenRecord, Record, read_records
from llama_platform.data.reading.sources import SourceFile, open_sources
from llama_platform.errors import ConfigError, ConflictError, InputError
from llama_platform.inference.config import EngineConfig
from llama_platform.models.base_model import BaseConfig
from llama_platform.safety.chat import SafetyConfig
from llama_platform.storage.base import ObjectStore, PreconditionFailedError
from llama_platform.storage.open_store import open_store

Positive = Annotated[int, Field(ge=1)]
PLAN = "batch.json"
log = logging.getLogger(__name__)


class BatchConfig(Config):
    """A batch of records to be answered."""

    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    """JSON-lines files, folders of them, and `s3://` prefixes."""
    output: str
    """Folder or `s3://bucket/folder` for the answers; one for each batch."""
    store: StoreConfig = StoreConfig()
    """Where artifacts are, and this node's cache of them."""
    base: BaseConfig = BaseConfig()
    """The base model and its prompts."""
    adapter: str | None = None
    """Answers records that name none: `name`, `name@alias` or `name@3`. None for the base alone."""
    engine: EngineConfig = EngineConfig(max_waiting=256)
    """Memory, batch and queue of each engine."""
    safety: SafetyConfig = SafetyConfig()
    """What must not be asked or answered."""
    shard_records: Positive = 128
    """Records that are answered and committed together."""
    workers: Positive = 1
    """Engines at work."""
    num_cpus: Annotated[float, Field(gt=0)] = 1
    """CPUs that Ray reserves for each worker."""
    num_gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs that Ray reserves for each worker; a fraction shares one."""
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
    with open_sources(config.sources) as files:
        for file in files:
            if _is_left_out(file):
                log.warning("a file is left out", extra={"file": file.name, "reason": file.problem})
        total, committed = _plan(config, output, files), set(output.list_keys("shard-"))
        kept = [number for number in range(total) if answers_key(number) in committed]
        pending = tuple(sorted(set(range(total)) - set(kept)))
        _stage(config, output, files, set(pending))
    progress = BatchProgress(total, shards=len(kept), kept_shards=len(kept))
    for number in kept:
        count(progress, (json.loads(line) for line in output.read(answers_key(number)).content.splitlines()))
    return Batch(pending, progress)


def open_output(output: str) -> ObjectStore:
    """Return the store at a folder or URI.

    Raises:
        ConfigError: it is a folder relative to Ray's temporary copy of a working directory, and would be lost.
    """
    if "://" not in output and not Path(output).is_absolute() and in_rays_copy():
        raise ConfigError(
            f"output: {output!r} would lie in Ray's temporary copy of a working directory, and be lost with it; give "
            "an absolute folder that every node has, or s3://bucket/folder"
        )
    return open_store(output if "://" in output else Path(output).absolute().as_uri())


def _plan(config: BatchConfig, output: ObjectStore, files: Sequence[SourceFile]) -> int:
    """Write what this batch is, or check that the output is of the same; return how many shards it has."""
    settings = config.model_dump(mode="json", include={"base", "adapter", "shard_records"})
    digest, shards = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()), 0
    for shard in _shards(files, config.shard_records):
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


def _stage(config: BatchConfig, output: ObjectStore, files: Sequence[SourceFile], pending: set[int]) -> None:
    """Write the records of pending shards beside the answers, where every worker finds them."""
    for number, shard in enumerate(_shards(files, config.shard_records)):
        if number in pending:
            with suppress(PreconditionFailedError):
                output.write(records_key(number), shard, if_absent=True)


def _is_left_out(file: SourceFile) -> bool:
    """Return whether a file of a folder is no file of records; one that was named itself is an error instead."""
    return file.listed and file.problem is not None


def _shards(files: Sequence[SourceFile], shard_records: int) -> Iterator[bytes]:
    """Yield the records, numbered, as JSON lines of a shard each."""
    rows = (_row(found) for file in files if not _is_left_out(file) for found in read_records(file))
    # As ASCII: half a character, which could not be written, stays what it was and is told with its record.
    lines = (json.dumps({"record": n, **row}) + "\n" for n, row in enumerate(rows))
    while shard := list(islice(lines, shard_records)):
        yield "".join(shard).encode()


def _row(found: Record | BrokenRecord) -> dict[str, Any]:
    if isinstance(found, BrokenRecord):
        return {"problem": f"{found.where}: {found.problem}"}
    if not isinstance(found.value, dict):
        return {"problem": f"{found.where}: a record is an object with 'prompt' or 'messages'"}
    value = dict(found.value)
    return {"id": value.pop("id", None), "value": value}


def count(progress: BatchProgress, answers: Iterable[dict[str, Any]]) -> None:
    """Add a shard's answers to the progress of its batch."""
    for answer in answers:
        progress.rows += 1
        progress.errors += "error" in answer
        progress.tokens += answer.get("usage", {}).get("completion_tokens", 0)


def answers_key(number: int) -> str:
    """Return the key of a shard's answers in the output."""
    return f"shard-{number:06d}.jsonl"


def records_key(number: int) -> str:
    """Return the key under which a shard's records wait for a worker."""
    return f"records/{number:06d}.jsonl"
