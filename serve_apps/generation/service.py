"""GenerationService: the one door to the model.

Whatever makes the model generate goes through `stream`: `/predict`, `/rag` with the rewriting of its questions, and
`/v1`. Its context says for which request, by when, and who counts.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol

from llama_platform.access.keys import Caller, check_sees
from llama_platform.artifacts.refs import BASE, parse_ref
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.canary.counts import SplitKey
from llama_platform.errors import ContextLengthError, InputError, UnavailableError
from llama_platform.inference.protocol import (
    FinishEvent,
    GenerationRequest,
    IndexedEvent,
    SamplingParams,
    TokenEvent,
    Usage,
)
from llama_platform.models.base_model import max_positions
from llama_platform.models.lineage import check_lineage
from llama_platform.models.prompt import STRIPS, PromptTemplate
from serve_apps.config import AppConfig, TenantConfig
from serve_apps.generation.allowance import Allowance
from serve_apps.generation.answer_screen import AnswerScreen
from serve_apps.generation.deadline import Deadline
from serve_apps.generation.places import Places
from serve_apps.generation.safety import NO_SCREENS, Screens
from serve_apps.routing.replica_status import ReplicaStatus
from serve_apps.routing.router import AliasRouter

MODERATOR = "moderator"
"""Stands for a rule's name where a moderator blocks."""
NO_REPLICA = "no replica has answered; it may still be loading its model"


class Generator(Protocol):
    """The Llama deployment, as the ingress sees it."""

    def generate(
        self, requests: Sequence[GenerationRequest], adapter: ArtifactVersion | None
    ) -> AsyncGenerator[list[IndexedEvent], None]:
        """Yield the events of the answers, numbered as the requests; closing it stops the work."""
        ...


class Moderator(Protocol):
    """A model that judges texts beside the rules."""

    async def is_harmful(self, text: str, context: "RequestContext") -> bool:
        """Return whether a text must not pass, on behalf of a request.

        Raises:
            PlatformError: nobody can judge; what nobody has judged does not pass.
        """
        ...


class Record(Protocol):
    """Takes note of what happens to one HTTP request."""

    def answered_by(self, adapter: ArtifactVersion, split: SplitKey | None) -> None:
        """Note which adapter answers, and the split of an alias that chose it; None where there was no choice."""
        ...

    def model_failed(self) -> None:
        """Note that the model failed, though the client gets an answer without it."""
        ...

    def supported(self, grounded: float) -> None:
        """Note the share of the answer that its sources support."""
        ...

    def generates(self, requests: Sequence[GenerationRequest]) -> None:
        """Note what the model is asked for the client."""
        ...

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Return a context that lasts as long as a part of the work."""
        ...

    def note(self, number: int, event: TokenEvent | FinishEvent) -> None:
        """Note an event of one of the answers."""
        ...

    def count(self, event: FinishEvent) -> None:
        """Count the tokens of an answer that the client does not see."""
        ...

    def left(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Note that the client has left before its answers ended, and the tokens of these."""
        ...

    def screened(self, place: str, rule: str, action: str) -> None:
        """Note what a rule has found: at `input`, `sources` or `output`, and what happened then."""
        ...

    def noted(self, place: str, blocked_by: str | None, redacted: Sequence[str], flagged: Sequence[str]) -> None:
        """Note what rules made of one text.

        Args:
            place: `input`, `sources` or `output`.
            blocked_by: the rule that blocked it.
            redacted: rules that redacted something, once for each place.
            flagged: rules that only note something.
        """
        ...

    def capped(self, max_tokens: int) -> None:
        """Note that an answer was asked for that is longer than the server's limit."""
        ...


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The request on whose behalf the model generates."""

    request_id: str
    """Prefix of the ids of all its completions."""
    split_key: str
    """Decides the side of a split: the same key always gets the same version."""
    deadline: Deadline
    record: Record
    internal: bool = False
    """Whether the text is for the platform itself, such as a question that is rewritten for the search."""
    caller: Caller | None = None
    """Whose key it came with; None where none is asked for."""
    allowance: Allowance | None = None
    """What it may use; None for as much as there is."""
    screens: Screens = NO_SCREENS
    """Rules for its texts."""


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A checked request, ready for a replica."""

    requests: tuple[GenerationRequest, ...]
    adapter: ArtifactVersion | None
    capped_tokens: int | None = None
    """The server's limit on new tokens, where the client asked for more."""


@dataclass(frozen=True, slots=True)
class LengthRules:
    """How the length of answers is decided."""

    field: str = "max_new_tokens"
    """Name of the field that bounds answers, for errors."""
    cap: bool = False
    """Whether more than the server's limit is cut to it, as OpenAI's clients expect, rather than refused."""


@dataclass(slots=True)
class GenerationService:
    """Prepares requests and has them answered."""

    config: AppConfig
    template: PromptTemplate
    router: AliasRouter
    generator: Generator
    moderator: Moderator | None = field(init=False, default=None)
    """A model that judges texts; None where rules alone do."""
    fingerprint: str = field(init=False)
    _places: Places = field(init=False)

    def __post_init__(self) -> None:
        self.fingerprint = self.template.fingerprint()
        engine = self.config.engine
        self._places = Places(lambda: len(self.replicas()), engine.max_running, engine.max_waiting)

    def new_deadline(self) -> Deadline:
        """Return the deadline of a request that arrives now."""
        return Deadline.after(self.config.limits.request_timeout_s)

    async def context_length(self, deadline: Deadline) -> int:
        """Return the tokens that prompt and answer may have together.

        Raises:
            UnavailableError: no replica has told yet.
        """
        while not (known := self.replicas()):
            if self.config.llama.min_replicas == 0 or not deadline.left():
                break
            await asyncio.sleep(0.05)
        if known:
            return min(status.context_length for status in known)
        if self.config.llama.min_replicas == 0:  # what the replica that is started for this request will tell
            bounds = (self.config.engine.context_length, max_positions(self.config.base))
            return min((bound for bound in bounds if bound is not None), default=2**31)
        raise UnavailableError(NO_REPLICA)

    def replicas(self) -> list[ReplicaStatus]:
        """Return what each ready Llama replica last said of itself."""
        return [status for status in self.router.table("adapter").replicas.values() if status is not None]

    async def resolve(self, name: str | None, context: RequestContext) -> ArtifactVersion | None:
        """Return the adapter that a name means for a request; None for the base.

        Raises:
            NotFoundError: there is none.
            IntegrityError: it must not answer here.
            DeadlineError: nothing is known of it before the deadline.
        """
        if name is None or name == BASE:
            return None
        check_sees(context.caller, "adapter", parse_ref(name).name)
        version = await context.deadline.within(
            self.router.resolve("adapter", name, context.split_key, context.request_id)
        )
        if name.partition("@")[2].isdigit():  # what aliases name has been checked by the controller
            known = self.router.version("adapter", version.name, version.version)
            _, manifest = await context.deadline.within(known)
            check_lineage(version, manifest, self.config.base, self.fingerprint)
        if not context.internal:  # a moderator's adapter answers nobody
            context.record.answered_by(version, self.router.split_of(name))
        return version

    async def prepare(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Callable[[int], SamplingParams],
        context: RequestContext,
        *,
        adapter: ArtifactVersion | None,
        answers_each: int = 1,
        length: LengthRules | None = None,
        continues: bool = False,
    ) -> PreparedRequest:
        """Return the request to answer prompts.

        Args:
            prompts: token ids of each.
            sampling: makes the sampling from the room that the context length leaves after a prompt.
            context: the request on whose behalf.
            adapter: the adapter that answers; None for the base.
            answers_each: number of answers to each prompt.
            length: how the length of answers is decided; None for the platform's own routes' way.
            continues: whether answers go on with the text of the prompt, so that their white space counts.

        Raises:
            ContextLengthError: a prompt, with its answer, is longer than the context.
            InputError: answers may be too long, or are too many.
        """
        limits, context_length = self.config.limits, await self.context_length(context.deadline)
        rules, capped = length or LengthRules(), None
        if len(prompts) * answers_each > limits.max_answers:
            raise InputError(
                f"{len(prompts)} prompts with {answers_each} answers each are over the limit of {limits.max_answers}"
            )
        tenant, weight, priority = self._share(context)
        requests: list[GenerationRequest] = []
        for prompt in prompts:
            room = context_length - len(prompt)
            if room < 1:
                raise ContextLengthError(
                    f"the prompt has {len(prompt)} tokens; the context of {context_length} leaves no room"
                )
            chosen = sampling(min(room, limits.max_new_tokens))
            if chosen.logprobs is not None and context.screens.changes_output:
                raise InputError("logprobs: they would show what rules of the application take out of answers")
            if unknown := [token for token, _ in chosen.logit_bias if token >= len(self.template.tokenizer)]:
                raise InputError(f"logit_bias: {unknown[0]} is no token of this model")
            if chosen.max_new_tokens > limits.max_new_tokens and rules.cap:
                capped = limits.max_new_tokens
                chosen = replace(chosen, max_new_tokens=min(capped, room))
            _check_length(len(prompt), chosen.max_new_tokens, limits.max_new_tokens, context_length, rules.field)
            for answer in range(answers_each):
                seed = None if chosen.seed is None else (chosen.seed + answer) % 2**63
                requests.append(
                    GenerationRequest(
                        request_id=f"{context.request_id}-{len(requests)}",
                        prompt_ids=tuple(prompt),
                        sampling=replace(chosen, seed=seed),
                        adapter_digest=adapter.digest if adapter else None,
                        deadline=context.deadline.at,
                        priority=priority,
                        tenant=tenant,
                        weight=weight,
                        continues=continues,
                    )
                )
        if capped is not None:
            context.record.capped(capped)
        return PreparedRequest(tuple(requests), adapter, capped)

    def _share(self, context: RequestContext) -> tuple[str, float, int]:
        """Return (tenant, weight, priority) of a request."""
        if context.caller is None:
            return "", 1.0, 0
        settings = self.config.tenants.get(context.caller.tenant, TenantConfig())
        return context.caller.tenant, settings.weight, settings.priority

    async def stream(
        self, request: PreparedRequest, context: RequestContext
    ) -> AsyncGenerator[list[IndexedEvent], None]:
        """Yield the events of a request's answers as rules and moderator let them pass; closing it stops the work.

        Raises:
            OverloadedError: the engines have no place for it.
            LimitError: the tokens that it may need are more than its key or tenant has left.
            DeadlineError: the deadline has passed.
            PlatformError: a replica refuses or fails.
        """
        judges = self.moderator is not None and "output" in self.config.safety.moderator.places
        with self._places.taken(request.requests[0].tenant, len(request.requests)):
            async with aclosing(self._screened(request, context)) as batches:
                if not judges or context.internal:
                    async for batch in batches:
                        yield batch
                    return
                whole = [event async for batch in batches for event in batch]
        yield await self._judged(whole, context)

    async def _judged(self, events: list[IndexedEvent], context: RequestContext) -> list[IndexedEvent]:
        """Return whole answers, those that a moderator does not let pass without their texts."""
        assert self.moderator is not None
        texts: dict[int, str] = {}
        for number, event in events:
            texts[number] = texts.get(number, "") + (event.text if isinstance(event, TokenEvent) else "")
        harmful = {number for number, text in texts.items() if text and await self.moderator.is_harmful(text, context)}
        for _ in harmful:
            context.record.noted("output", MODERATOR, (), ())
        return [
            (number, replace(event, reason="content_filter") if isinstance(event, FinishEvent) else event)
            if number in harmful
            else (number, event)
            for number, event in events
            if number not in harmful or isinstance(event, FinishEvent)
        ]

    async def _screened(
        self, request: PreparedRequest, context: RequestContext
    ) -> AsyncGenerator[list[IndexedEvent], None]:
        if not context.internal:
            context.record.generates(request.requests)
        if context.allowance is not None:
            needed = sum(len(one.prompt_ids) + one.sampling.max_new_tokens for one in request.requests)
            await context.allowance.reserve(needed)
        strip = STRIPS[self.template.style]
        unfinished = {
            number: AnswerScreen(one, context.screens.output, None if one.continues else strip)
            for number, one in enumerate(request.requests)
        }
        with context.record.stage("rewrite" if context.internal else "generate"):
            async with aclosing(self.generator.generate(request.requests, request.adapter)) as stream:
                while unfinished:
                    try:
                        events = await context.deadline.within(anext(stream))
                    except asyncio.CancelledError:
                        _leave(context, request, unfinished)
                        raise
                    batch = _sent(context, unfinished, events)
                    try:
                        yield batch
                    except GeneratorExit:
                        if unfinished:
                            _leave(context, request, unfinished)
                        raise


def _sent(
    context: RequestContext, unfinished: dict[int, AnswerScreen], events: Sequence[IndexedEvent]
) -> list[IndexedEvent]:
    """Return what is sent on for some events; answers that end with them are taken out of `unfinished`."""
    batch: list[IndexedEvent] = []
    for number, event in events:
        if number not in unfinished:  # a rule has ended this answer
            continue
        if isinstance(event, FinishEvent) and event.reason == "deadline":
            raise context.deadline.passed()
        for sent in unfinished[number].events(event):
            _record(context, number, sent)
            batch.append((number, sent))
            if isinstance(sent, FinishEvent):
                _note_screen(context, unfinished.pop(number))
    return batch


def _note_screen(context: RequestContext, screen: AnswerScreen) -> None:
    found = screen.filter
    context.record.noted("output", found.blocked_by, found.redacted, found.flagged())


def _leave(context: RequestContext, request: PreparedRequest, unfinished: Mapping[int, AnswerScreen]) -> None:
    """Note the answers that nobody waits for any more, with the tokens that each has by now."""
    prompts = sum(len(request.requests[number].prompt_ids) for number in unfinished)
    answers = sum(screen.tokens for screen in unfinished.values())
    context.record.left(prompts, answers)
    if context.allowance is not None:
        context.allowance.use(Usage(prompts, answers))


def _record(context: RequestContext, number: int, event: TokenEvent | FinishEvent) -> None:
    if isinstance(event, FinishEvent) and context.allowance is not None:
        context.allowance.use(event.usage)
    if not context.internal:
        context.record.note(number, event)
    elif isinstance(event, FinishEvent):
        context.record.count(event)


def _check_length(prompt: int, new_tokens: int, limit: int, context_length: int, field_name: str) -> None:
    if new_tokens > limit:
        raise InputError(f"{field_name}: {new_tokens} is over the limit of {limit}")
    if new_tokens > context_length - prompt:
        raise ContextLengthError(
            f"the prompt has {prompt} tokens; with {field_name} {new_tokens} that is over the context of "
            f"{context_length}"
        )
