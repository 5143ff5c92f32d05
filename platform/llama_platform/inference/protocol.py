"""The Engine protocol: requests in, events out. Prompts are rendered and tokenized outside."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from llama_platform.errors import InputError
from llama_platform.inference.structure import Structure

FinishReason = Literal["stop", "length", "content_filter", "cancelled", "deadline", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen."""

    max_new_tokens: int = 256
    min_new_tokens: int = 0
    """Tokens before which the answer cannot end."""
    temperature: float = 0.7
    """0 takes the most likely token."""
    top_p: float = 1.0
    """Only the most likely tokens that have this probability together."""
    top_k: int = 0
    """Number of the most likely tokens that are considered; 0 for all."""
    min_p: float = 0.0
    """Only tokens with at least this share of the most likely one's probability."""
    repetition_penalty: float = 1.0
    """Divides positive logits of tokens in prompt and answer, and multiplies negative ones."""
    presence_penalty: float = 0.0
    """Subtracted from the logits of tokens in the answer."""
    frequency_penalty: float = 0.0
    """Subtracted for each time a token is in the answer."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer; they are not part of it."""
    seed: int | None = None
    """The same seed gives the same answer, alone or in company; None for a new one each time."""
    ignore_eos: bool = False
    """Whether the answer goes on to `max_new_tokens`, past tokens that would end it."""
    logprobs: int | None = None
    """Number of alternatives to each token, with log-probabilities; None turns them off."""
    prompt_logprobs: int | None = None
    """Number of alternatives to each token of the prompt but the first, which has no prediction; None turns its
    log-probabilities off."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Added to the logits of tokens, by id, before penalties: -100 bars a token, 100 forces it."""
    structure: Structure | None = None
    """What the answer must be, such as JSON of a schema; an answer that ends with `length` is not whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One answer to be generated."""

    request_id: str
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    adapter_digest: str | None = None
    """A loaded adapter; None for the base alone."""
    deadline: float | None = None
    """`time.time()` after which the answer ends with `deadline`."""
    priority: int = 0
    """Requests with a larger one are begun first."""
    tenant: str = ""
    """Who shares the engine: of those with the same priority, the one with the fewest tokens so far is next."""
    weight: float = 1.0
    """How much of the engine its tenant may have, compared with others."""
    continues: bool = False
    """Whether the answer goes on with the prompt's text, so that a space at its beginning counts; an answer in a chat
    is a text of its own, and begins without one."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Log-probability of a token, before penalties and temperature."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """The most likely tokens and their log-probabilities, best first."""


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """The tokens of a step, and the text that has become final with them."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    """Log-probabilities of each token, if the request asks for them."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Tokens of the prompt whose computation an earlier request had done."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds since the engine got the request."""

    queue_s: float
    """Seconds until its first step."""
    first_token_s: float | None
    total_s: float


@dataclass(frozen=True, slots=True)
class FinishEvent:
    """The end of an answer: exactly one, last."""

    reason: FinishReason
    usage: Usage
    timings: Timings
    error: str | None = None
    """What went wrong, where the reason is `error`."""
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    """Log-probabilities of the prompt's second token and all after it, if the request asks for them."""


IndexedEvent = tuple[int, TokenEvent | FinishEvent]
"""An event of one of several answers, with the answer's number from 0."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The present load of an engine."""

    running: int
    waiting: int
    adapters: tuple[str, ...]
    """Digests of the loaded adapters."""
    completion_tokens: int
    """Tokens generated since start."""
    memory: dict[str, Any]
    healthy: bool = True
    """Whether it answers; False after steps that broke again and again."""
    failures: int = 0
    """Steps that broke since start."""
    preempted: int = 0
    """How often an answer gave way to others since start, and was computed again from its tokens."""
    refused_adapters: Mapping[str, str] = field(default_factory=dict)
    """Adapters that are not answered with any more, by digest, with the reason."""
    products: Mapping[str, str] = field(default_factory=dict)
    """What computes each kind of matrix product, in words; empty where the engine has no choice."""


class Engine(Protocol):
    """One loaded base model that generates, each request with its own adapter."""

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together."""
        ...

    @property
    def keeps_folders(self) -> bool:
        """Whether the folder of an adapter must stay until the adapter is unloaded."""
        ...

    def generate(self, request: GenerationRequest) -> AsyncIterator[TokenEvent | FinishEvent]:
        """Yield the answer as it is generated; closing the iterator stops the work within a step.

        Raises:
            InputError: the request cannot be answered, such as with a prompt longer than the context.
            OverloadedError: too many requests wait already.
            EngineError: the engine is closed, or has broken for good.
        """
        ...

    async def load_adapter(self, digest: str, folder: Path, pinned: bool = False) -> None:
        """Load an adapter; one that is loaded already is only pinned or unpinned.

        Args:
            digest: its name from now on.
            folder: with PEFT's files.
            pinned: whether it stays when others need its place. Pinned ones take at most half of the memory for
                adapters; beyond that one is loaded like any other.

        Raises:
            IntegrityError: the folder holds no usable adapter, or one that does not fit the base.
            UnavailableError: there is no room beside the adapters in use.
        """
        ...

    def hold_adapter(self, digest: str) -> bool:
        """Keep a loaded adapter loaded until it is released; return False where it is not loaded."""
        ...

    def release_adapter(self, digest: str) -> None:
        """End what `hold_adapter` began."""
        ...

    def pin_adapter(self, digest: str) -> bool:
        """Let a loaded adapter stay when others need its place; return False where it is not loaded."""
        ...

    def unpin_adapter(self, digest: str) -> None:
        """Let an adapter go when others need its place; nothing happens if it is not loaded."""
        ...

    async def unload_adapter(self, digest: str) -> None:
        """Free an adapter; nothing happens if it is not loaded."""
        ...

    def stats(self) -> EngineStats:
        """Return the present load."""
        ...

    async def close(self) -> None:
        """Stop all work and free the model."""
        ...


def check_prompt(prompt_ids: tuple[int, ...], context_length: int, vocabulary: int) -> None:
    """Check that a prompt can be answered.

    Raises:
        InputError: it is empty, leaves no room for an answer, or has tokens that do not exist.
    """
    if not prompt_ids:
        raise InputError("the prompt has no tokens")
    if len(prompt_ids) >= context_length:
        raise InputError(
            f"the prompt has {len(prompt_ids)} tokens; with an answer the context of {context_length} is too short"
        )
    if min(prompt_ids) < 0 or max(prompt_ids) >= vocabulary:
        raise InputError(f"the prompt has tokens outside of the vocabulary of {vocabulary}")
