"""FakeEngine: keeps the promises of an engine without a model: tokens by rule, so that other tests know the answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llama_platform.errors import EngineError, OverloadedError
from llama_platform.inference.detokenizer import Detokenizer
from llama_platform.inference.protocol import (
    EngineStats,
    FinishEvent,
    FinishReason,
    GenerationRequest,
    Timings,
    TokenEvent,
    TokenLogprob,
    Usage,
    check_prompt,
)
from llama_platform.inference.torch_engine.sampler import Sampler, token_logprob
from llama_platform.models.adapter_folder import check_adapter


class FakeEngine:
    """Its logits are random numbers that the prompt, the adapter and the tokens so far decide."""

    keeps_folders = False

    def __init__(
        self, tokenizer: Any, context_length: int = 2048, max_in_flight: int = 64, step_s: float = 0.0005
    ) -> None:
        self._tokenizer, self.context_length, self._max_in_flight = tokenizer, context_length, max_in_flight
        self._step_s = step_s
        self._adapters: set[str] = set()
        self._in_flight = self._completion_tokens = 0
        self._closed = False

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TokenEvent | FinishEvent]:
        if self._closed:
            raise EngineError("the engine is closed")
        check_prompt(request.prompt_ids, self.context_length, len(self._tokenizer))
        if self._in_flight >= self._max_in_flight:
            raise OverloadedError(f"{self._in_flight} requests are in flight already")
        self._in_flight += 1
        try:
            async for event in self._answer(request):
                yield event
        finally:
            self._in_flight -= 1

    async def _answer(self, request: GenerationRequest) -> AsyncIterator[TokenEvent | FinishEvent]:
        start, first_token_s = time.monotonic(), None
        prompt, sampling, end = request.prompt_ids, request.sampling, self._tokenizer.eos_token_id
        tokens: list[int] = []
        reason: FinishReason = "length"
        error = None
        if request.adapter_digest is not None and request.adapter_digest not in self._adapters:
            reason, error = "error", f"adapter {request.adapter_digest} is not loaded"
        sampler, detokenizer = (
            Sampler(sampling, prompt, {end}),
            Detokenizer(self._tokenizer, sampling.stop, prompt, sampling.min_new_tokens, continues=request.continues),
        )
        unsent, logprobs = [], []
        while error is None and len(tokens) < min(sampling.max_new_tokens, self.context_length - len(prompt)):
            if request.deadline is not None and time.time() > request.deadline:
                reason = "deadline"
                break
            token, logprob = sampler.choose(self._logits(request, tokens))
            tokens.append(token)
            first_token_s = first_token_s or time.monotonic() - start
            self._completion_tokens += 1
            if token == end and not sampling.ignore_eos:
                reason = "stop"
                break
            unsent.append(token)
            logprobs += [logprob] if logprob else []
            if text := detokenizer.push([token]):
                yield TokenEvent(text, tuple(unsent), tuple(logprobs))
                unsent, logprobs = [], []
            if detokenizer.stopped:
                reason = "stop"
                break
            await asyncio.sleep(self._step_s)
        if reason != "error" and ((text := detokenizer.finish()) or unsent):
            yield TokenEvent(text, tuple(unsent), tuple(logprobs))
        usage = Usage(len(prompt), len(tokens))
        total = time.monotonic() - start
        scored = self._scored(request) if sampling.prompt_logprobs is not None and error is None else ()
        yield FinishEvent(reason, usage, Timings(0.0, first_token_s, total), error, scored)

    def _scored(self, request: GenerationRequest) -> tuple[TokenLogprob, ...]:
        alternatives = request.sampling.prompt_logprobs or 0
        return tuple(token_logprob(self._logits(request, []), token, alternatives) for token in request.prompt_ids[1:])

    def _logits(self, request: GenerationRequest, tokens: list[int]) -> torch.Tensor:
        # Few tokens, so that they come again; the same ones for an adapter as without it would be no change.
        seed = [*request.prompt_ids[-8:], *tokens[-2:], len(request.adapter_digest or "")]
        choice = np.random.default_rng(seed).normal(size=40).astype(np.float32)
        logits = torch.full((len(self._tokenizer),), -1e4)
        logits[300:340] = torch.from_numpy(choice)
        logits[self._tokenizer.eos_token_id] = 0.5
        return logits

    async def load_adapter(self, digest: str, folder: Path, pinned: bool = False) -> None:
        check_adapter(folder)
        self._adapters.add(digest)

    def hold_adapter(self, digest: str) -> bool:
        return digest in self._adapters

    def pin_adapter(self, digest: str) -> bool:
        return digest in self._adapters

    def unpin_adapter(self, digest: str) -> None:
        assert digest is not None

    def release_adapter(self, digest: str) -> None:
        assert digest is not None

    async def unload_adapter(self, digest: str) -> None:
        self._adapters.discard(digest)

    def stats(self) -> EngineStats:
        return EngineStats(
            running=self._in_flight,
            waiting=0,
            adapters=tuple(self._adapters),
            completion_tokens=self._completion_tokens,
            memory={},
            healthy=not self._closed,
        )

    async def close(self) -> None:
        self._closed = True
