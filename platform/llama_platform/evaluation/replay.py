"""Replay: audited requests answered again, with the base and the adapters of then."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Any

from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.audit.trail import find_requests, known_request, start_of
from llama_platform.errors import EngineError, InputError, IntegrityError
from llama_platform.inference.adapter_holder import AdapterHolder
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.make_engine import make_engine
from llama_platform.inference.protocol import Engine, FinishEvent, GenerationRequest, SamplingParams
from llama_platform.inference.structure import Structure
from llama_platform.models.base_model import BaseConfig, load_template
from llama_platform.models.prompt import STRIPS, PromptTemplate

SAMPLING_FIELDS = {field.name for field in fields(SamplingParams)}


def recorded_sampling(kept: Mapping[str, Any]) -> SamplingParams:
    """Return the sampling of a record, whose JSON has lists and objects for tuples and structures.

    Args:
        kept: fields of SamplingParams; those that are missing have their defaults.
    """
    values = {**kept, "stop": tuple(kept["stop"])}
    values["logit_bias"] = tuple((token, bias) for token, bias in kept.get("logit_bias", ()))
    structure = kept.get("structure")
    values["structure"] = None if structure is None else Structure(**structure)
    return SamplingParams(**values)


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """One request, answered again."""

    request: str
    then: tuple[str, ...]
    """Its answers, as they were sent."""
    now: tuple[str, ...]
    """Its answers of this time."""

    @property
    def same(self) -> bool:
        """Return whether they are the same to the last character."""
        return self.then == self.now


def replay_requests(repository: ArtifactRepository, request_ids: Sequence[str]) -> Iterator[ReplayReport]:
    """Answer requests again on this machine's CPU, and yield a report for each.

    Args:
        repository: holds the trail and the adapters.
        request_ids: ids of requests whose prompts and answers were kept.

    Raises:
        NotFoundError: the trail knows no such request, or an adapter's version is gone.
        InputError: a request cannot be answered again: its content was not kept, its answers are random, or rules have
            changed them.
        IntegrityError: an adapter, or the prompts' form, is not that of then.
    """
    replayer: Replayer | None = None
    found = find_requests(repository.store, request_ids)
    try:
        for request_id in request_ids:
            record = _answered(known_request(found, request_id), request_id)
            start = start_of(repository.store, record["writer"])
            if start is None:
                raise InputError(f"{request_id}: the record of what its process served is not kept any more")
            base = BaseConfig.model_validate(start["base"])
            if replayer is None or replayer.base != base:
                if replayer is not None:
                    replayer.close()
                replayer = Replayer(repository, base)
            yield replayer.replay(record)
    finally:
        if replayer is not None:
            replayer.close()


class Replayer:
    """One base, loaded."""

    def __init__(self, repository: ArtifactRepository, base: BaseConfig) -> None:
        """Load `base`, and adapters as they are asked for."""
        self.base, self._repository = base, repository
        self._template: PromptTemplate = load_template(base)
        self._engine: Engine = make_engine(base, self._template.tokenizer, 1, EngineConfig(kind="torch"))
        self._adapters = AdapterHolder(self._engine, repository.fetched)
        self._runner = asyncio.Runner()

    def replay(self, record: dict[str, Any]) -> ReplayReport:
        """Answer the request of a record again.

        Raises:
            InputError: it cannot be answered again.
            IntegrityError: an adapter, or the prompts' form, is not that of then.
        """
        if record["prompt_fingerprint"] != self._template.fingerprint():
            raise IntegrityError(f"{record['request']}: its prompts had another form than this base's have now")
        now = self._runner.run(self._answers(record))
        return ReplayReport(record["request"], tuple(one["answer"] for one in record["generations"]), tuple(now))

    def close(self) -> None:
        """Free the base."""
        self._runner.run(self._engine.close())
        self._runner.close()

    async def _answers(self, record: dict[str, Any]) -> list[str]:
        adapter = self._adapter(record)
        async with self._adapters.held(adapter) if adapter is not None else nullcontext():
            return [
                await self._answer(f"{record['request']}-{number}", generation, adapter)
                for number, generation in enumerate(record["generations"])
            ]

    async def _answer(self, request_id: str, generation: dict[str, Any], adapter: ArtifactVersion | None) -> str:
        kept = {name: value for name, value in generation["sampling"].items() if name in SAMPLING_FIELDS}
        request = GenerationRequest(
            request_id=request_id,
            prompt_ids=tuple(generation["prompt_ids"]),
            sampling=recorded_sampling(kept),
            adapter_digest=adapter.digest if adapter is not None else None,
            continues=generation["continues"],
        )
        texts: list[str] = []
        async for event in self._engine.generate(request):
            if isinstance(event, FinishEvent):
                if event.reason == "error":
                    raise EngineError(event.error or "the engine failed")
            else:
                texts.append(event.text)
        text = "".join(texts)
        return text if request.continues else STRIPS[self._template.style](text)

    def _adapter(self, record: dict[str, Any]) -> ArtifactVersion | None:
        if "adapter" not in record:
            return None
        version = self._repository.version("adapter", record["adapter"], record["version"])
        if version.digest != record["digest"]:
            raise IntegrityError(f"{record['request']}: {record['adapter']}@{record['version']} is another adapter now")
        return version


def _answered(records: Sequence[dict[str, Any]], request_id: str) -> dict[str, Any]:
    """Return the record that holds the answers of a request."""
    answered = [record for record in records if record["kind"] in ("request", "end") and record["status"] == 200]
    if not answered or not answered[-1]["generations"]:
        raise InputError(f"{request_id}: no model has answered it")
    record = answered[-1]
    for generation in record["generations"]:
        if "prompt_ids" not in generation:
            raise InputError(f"{request_id}: its prompt was not kept; audit.content: full keeps what a replay needs")
        if generation["sampling"]["temperature"] > 0 and generation["sampling"]["seed"] is None:
            raise InputError(f"{request_id}: its answers were drawn at random, without a seed")
    if any(entry.startswith("output:") and not entry.endswith(":flag") for entry in record["safety"]):
        raise InputError(f"{request_id}: rules of safety have changed its answers")
    if record["outcome"] == "client_gone":
        raise InputError(f"{request_id}: its client left before the answer's end")
    return record
