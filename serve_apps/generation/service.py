"""GenerationService: from a checked request to the events of its answers, with one deadline and one cancellation."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import DeadlineError, InputError, UnavailableError
from llama_platform.inference.protocol import FinishEvent, GenerationRequest, SamplingParams, TokenEvent
from llama_platform.models.prompt import PromptTemplate
from serve_apps.config import AppConfig
from serve_apps.llama.stream_batching import IndexedEvent
from serve_apps.routing.router import AliasRouter
from serve_apps.routing.validation import check_lineage

BASE = "base"
"""Names the base without an adapter, where an adapter is asked for."""
NO_REPLICA = "no replica has answered; it may still be loading its model"


class Generator(Protocol):
    """What answers: the Llama deployment."""

    def generate(
        self, requests: Sequence[GenerationRequest], adapter: ArtifactVersion | None
    ) -> AsyncGenerator[list[IndexedEvent], None]:
        """Yield the events of the answers, numbered as the requests; closing it stops the work."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """A checked request, ready for a replica."""

    requests: tuple[GenerationRequest, ...]
    adapter: ArtifactVersion | None
    deadline: float
    """`time.time()`"""


class GenerationService:
    """Prepares requests, and has them answered."""

    def __init__(self, config: AppConfig, template: PromptTemplate, live: AliasRouter, generator: Generator) -> None:
        """Keep what is needed for every request."""
        self._config, self._live, self._generator = config, live, generator
        self.template, self.fingerprint = template, template.fingerprint()

    def deadline(self) -> float:
        """Return the `time.time()` by which a request that came now must be answered."""
        return time.time() + self._config.limits.request_timeout_s

    async def within(self, deadline: float, work: Any) -> Any:
        """Return what `work` returns, if it does so before the deadline.

        Raises:
            DeadlineError: it does not; it is cancelled.
        """
        # One wait per event rather than one timeout around all: a stream is read from another task than it began in.
        # Not asyncio.wait_for, which in Python 3.11 loses a cancellation that comes with the result (cpython#86296).
        try:
            async with asyncio.timeout(max(deadline - time.time(), 0)):
                return await work
        except TimeoutError as error:
            raise self._too_slow() from error

    async def context_length(self, deadline: float) -> int:
        """Return the tokens that prompt and answer may have together.

        Raises:
            UnavailableError: no replica has told yet.
        """
        while not (known := self.replicas()):
            if self._config.llama.min_replicas == 0 or time.time() >= deadline:
                break
            await asyncio.sleep(0.05)
        lengths = [int(facts["context_length"]) for facts in known]
        if lengths:
            return min(lengths)
        if self._config.llama.min_replicas == 0:  # the replica that is started for this request checks it
            return self._config.engine.context_length or 2**31
        raise UnavailableError(NO_REPLICA)

    def replicas(self) -> list[dict[str, Any]]:
        """Return what each ready replica last said of itself."""
        return [dict(facts) for facts in self._live.table("adapter").replicas.values()]

    async def resolve(self, name: str | None, subject: str) -> ArtifactVersion | None:
        """Return the adapter that a name means for a subject; None for the base.

        Raises:
            NotFoundError: there is none.
            IntegrityError: it must not answer here.
        """
        if name is None or name == BASE:
            return None
        version = await self._live.resolve("adapter", name, subject)
        if "@" in name and name.partition("@")[2].isdigit():  # what aliases name has been checked by the follower
            _, manifest = await self._live.version("adapter", version.name, version.version)
            check_lineage(version, manifest, self._config.base, self.fingerprint)
        return version

    async def task(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Callable[[int], SamplingParams],
        *,
        request_id: str,
        adapter: ArtifactVersion | None,
        deadline: float,
        answers_each: int = 1,
        length_field: str = "max_new_tokens",
        continues: bool = False,
    ) -> Task:
        """Return the task of answering prompts.

        Args:
            prompts: token ids.
            sampling: makes the sampling from the room that the context leaves after the prompt.
            request_id: of the request; those of its answers begin with it.
            adapter: that answers.
            deadline: `time.time()`
            answers_each: answers to each prompt.
            length_field: in which the request bounds its answers, for the error.
            continues: whether answers go on with the text of the prompt.

        Raises:
            InputError: a prompt is too long, or answers may be too long, or too many.
        """
        limits, context = self._config.limits, await self.context_length(deadline)
        if len(prompts) * answers_each > limits.max_answers:
            raise InputError(
                f"{len(prompts)} prompts with {answers_each} answers each are over the limit of {limits.max_answers}"
            )
        requests: list[GenerationRequest] = []
        for prompt in prompts:
            room = context - len(prompt)
            if room < 1:
                raise InputError(f"the prompt has {len(prompt)} tokens; the context of {context} leaves no room")
            chosen = sampling(min(room, limits.max_new_tokens))
            if chosen.max_new_tokens > limits.max_new_tokens:
                raise InputError(
                    f"{length_field}: {chosen.max_new_tokens} is over the limit of {limits.max_new_tokens}"
                )
            if chosen.max_new_tokens > room:
                raise InputError(
                    f"the prompt has {len(prompt)} tokens; with {length_field} {chosen.max_new_tokens} that is over "
                    f"the context of {context}"
                )
            for answer in range(answers_each):
                seed = None if chosen.seed is None else (chosen.seed + answer) % 2**63
                requests.append(
                    GenerationRequest(
                        request_id=f"{request_id}-{len(requests)}",
                        prompt_ids=tuple(prompt),
                        sampling=replace(chosen, seed=seed),
                        adapter_digest=adapter.digest if adapter else None,
                        deadline=deadline,
                        continues=continues,
                    )
                )
        return Task(tuple(requests), adapter, deadline)

    async def events(self, task: Task) -> AsyncGenerator[list[IndexedEvent], None]:
        """Yield the events of a task's answers; closing it stops the work.

        Raises:
            DeadlineError: the deadline has passed.
            PlatformError: a replica refuses or fails.
        """
        unfinished = len(task.requests)
        async with aclosing(self._generator.generate(task.requests, task.adapter)) as stream:
            while unfinished:
                batch: list[IndexedEvent] = await self.within(task.deadline, anext(stream))
                for _, event in batch:
                    if isinstance(event, FinishEvent):
                        unfinished -= 1
                        if event.reason == "deadline":
                            raise self._too_slow()
                yield batch

    def _too_slow(self) -> DeadlineError:
        return DeadlineError(f"no answer within {self._config.limits.request_timeout_s:g} s; the work was stopped")


async def collect(events: AsyncGenerator[list[IndexedEvent], None], answers: int) -> "list[Answer]":
    """Return whole answers out of their events."""
    collected = [Answer() for _ in range(answers)]
    async with aclosing(events):
        async for batch in events:
            for number, event in batch:
                collected[number].add(event)
    return collected


class Answer:
    """One answer as it comes together."""

    def __init__(self) -> None:
        """Start empty."""
        self._texts: list[str] = []
        self.tokens: list[TokenEvent] = []
        self.finish: FinishEvent | None = None

    def add(self, event: TokenEvent | FinishEvent) -> None:
        """Add an event."""
        if isinstance(event, FinishEvent):
            self.finish = event
        else:
            self._texts.append(event.text)
            self.tokens.append(event)

    @property
    def text(self) -> str:
        """Return the text so far."""
        return "".join(self._texts)

    @property
    def ended(self) -> FinishEvent:
        """Return the last event; only of an answer that has ended."""
        assert self.finish is not None
        return self.finish
