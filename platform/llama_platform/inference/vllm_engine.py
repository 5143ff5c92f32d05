"""VllmEngine: vLLM's AsyncLLM behind the Engine protocol. The only user of vllm (extra `vllm`).

vLLM schedules and computes; text, stop texts and deadlines are handled here, the same as in the other engines.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_platform.errors import EngineError, InputError, IntegrityError
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.detokenizer import Detokenizer
from llama_platform.inference.fair_share import FairShare
from llama_platform.inference.gpu_memory import GIB
from llama_platform.inference.protocol import (
    EngineStats,
    FinishEvent,
    FinishReason,
    GenerationRequest,
    SamplingParams,
    Timings,
    TokenEvent,
    TokenLogprob,
    Usage,
    check_prompt,
)
from llama_platform.inference.queue_bounds import check_queue
from llama_platform.inference.structure import Structure, grammar_of
from llama_platform.inference.vllm_settings import adapter_rank, check_memory, vllm_arguments
from llama_platform.models.adapter_folder import check_adapter, check_plain
from llama_platform.models.base_model import BaseConfig, base_folder, end_ids

PRIORITY_STEP = 10**9
"""Tokens that no counter reaches: a higher priority counts for more than any share."""


class VllmEngine:
    """An engine on vLLM; see Engine."""

    keeps_folders = True  # vLLM reads a folder again whenever the adapter has left its memory

    def __init__(self, base: BaseConfig, tokenizer: Any, config: EngineConfig | None = None, gpus: int = 1) -> None:
        """Load the base, in vLLM's own process, and start.

        Args:
            base: what to load.
            tokenizer: the base's.
            config: sizes. Without `kv_cache_mib` vLLM decides itself.
            gpus: how many GPUs of this machine the base is spread over; 0 for its processor, with vLLM's build for it.

        Raises:
            InputError: vLLM is not installed, cannot load the base, or has no room for it, or a setting is not for it.
        """
        self._config = config or EngineConfig()
        folder = base_folder(base)
        arguments = vllm_arguments(folder, base, self._config, max(1, gpus))
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.platforms import current_platform
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise InputError(
                f"vLLM cannot be imported ({error}): install the extra, pip install 'llama-platform[vllm]'"
            ) from error
        if current_platform.is_cuda() and not gpus:
            raise InputError(
                "engine.kind vllm: this replica was assigned no GPU, and this build of vLLM would take one that is not "
                "its own; set llama.num_gpus (batch.num_gpus in a job), or engine.kind torch"
            )
        if current_platform.is_cuda():
            check_memory(folder, current_platform.get_device_total_memory() / GIB, gpus, self._config)
        try:
            self._llm: Any = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{folder}: vLLM cannot serve this: {error}") from error
        self.context_length = int(self._llm.model_config.max_model_len)
        self._vocabulary = int(self._llm.model_config.get_vocab_size())
        self._tokenizer, self._end_ids = tokenizer, end_ids(folder, tokenizer)
        self._on_cpu = bool(current_platform.is_cpu())
        self._adapters: dict[str, Any] = {}
        self._numbers = itertools.count(1)
        self._load_lock = asyncio.Lock()
        self._share = FairShare()
        self._in_flight: dict[_Answer, None] = {}
        self._completion_tokens = self._failures = 0
        self._closed = False

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TokenEvent | FinishEvent]:
        """Yield the answer; see Engine."""
        self._check(request)
        params = _sampling_params(request.sampling, self.context_length - len(request.prompt_ids), self._end_ids)
        sampling, prompt = request.sampling, request.prompt_ids
        detokenizer = Detokenizer(
            self._tokenizer, sampling.stop, prompt, sampling.min_new_tokens, continues=request.continues
        )
        answer = _Answer(request, detokenizer)
        expected = min(sampling.max_new_tokens, self.context_length - len(prompt))
        self._share.arrive(request.tenant)
        # vLLM orders what waits by numbers that stay as they were: those are the counters at arrival, with what the
        # requests before may need at most.
        answer.priority = int(self._share.used(request.tenant)) - request.priority * PRIORITY_STEP
        self._share.charge(request.tenant, request.weight, len(prompt), expected)
        self._in_flight[answer] = None
        reason: FinishReason = "cancelled"
        error = None
        try:
            adapter = request.adapter_digest
            if adapter is not None and adapter not in self._adapters:
                reason, error = "error", f"adapter {adapter} is not loaded"
            else:
                async with aclosing(self._tokens(answer, params)) as events:  # type: ignore[type-var]
                    async for event in events:
                        yield event
                reason, error = answer.reason, answer.error
        finally:
            self._in_flight.pop(answer, None)
            self._share.charge(request.tenant, request.weight, answer_tokens=answer.generated - expected)
            self._share.leave(request.tenant)
            self._completion_tokens += answer.generated
            self._failures += answer.error is not None
        if reason != "error" and (last := answer.rest()) is not None:
            yield last
        yield answer.finish(reason, error)

    async def load_adapter(self, digest: str, folder: Path, pinned: bool = False) -> None:
        """Load an adapter; vLLM decides itself which ones stay in its memory; see Engine.

        Raises:
            IntegrityError: the folder holds no usable adapter, or one that does not fit the base.
        """
        async with self._load_lock:
            if digest in self._adapters:
                return
            from vllm.lora.request import LoRARequest

            check_plain(facts := check_adapter(folder))
            if (rank := facts["r"]) > (most := adapter_rank(self._config)):
                raise IntegrityError(
                    f"the adapter has rank {rank}, and vLLM was given memory for {most}: with engine.max_adapter_rank "
                    f"{rank}, or none, deploy again"
                )
            adapter = LoRARequest(digest, next(self._numbers), str(folder))
            try:
                await self._llm.add_lora(adapter)
            except Exception as error:  # the engine's process passes on errors of any class
                raise IntegrityError(f"{folder}: vLLM refuses the adapter: {error}") from error
            self._adapters[digest] = adapter

    def hold_adapter(self, digest: str) -> bool:
        """Return whether the adapter is loaded: vLLM keeps all until they are unloaded; see Engine."""
        return digest in self._adapters

    def release_adapter(self, digest: str) -> None:
        """Do nothing; see `hold_adapter`."""

    def pin_adapter(self, digest: str) -> bool:
        """Return whether the adapter is loaded; see `hold_adapter`."""
        return digest in self._adapters

    def unpin_adapter(self, digest: str) -> None:
        """Do nothing; see `hold_adapter`."""

    async def unload_adapter(self, digest: str) -> None:
        """Free an adapter; see Engine."""
        adapter = self._adapters.pop(digest, None)
        if adapter is not None:
            await self._llm.remove_lora(adapter.lora_int_id)

    def stats(self) -> EngineStats:
        """Return the load as seen from here: what is beyond `max_running` waits; see Engine."""
        running = min(len(self._in_flight), self._config.max_running)
        return EngineStats(
            running=running,
            waiting=len(self._in_flight) - running,
            adapters=tuple(self._adapters),
            completion_tokens=self._completion_tokens,
            memory={},
            healthy=not (self._closed or self._llm.errored),
            failures=self._failures,
        )

    async def close(self) -> None:
        """End vLLM's process; see Engine."""
        self._closed = True
        await asyncio.to_thread(self._llm.shutdown)

    def _check(self, request: GenerationRequest) -> None:
        if self._closed or self._llm.errored:
            raise EngineError("the engine is closed" if self._closed else "the engine has broken and needs a restart")
        check_prompt(request.prompt_ids, self.context_length, self._vocabulary)
        if request.sampling.prompt_logprobs is not None and self._on_cpu:
            raise InputError("vLLM's CPU build cannot score prompts (its LoRA breaks on it); use engine.kind torch")
        # What has no token yet waits, as far as is seen from here.
        queued = [answer.request for answer in self._in_flight if answer.first_token_s is None]
        check_queue(self._config, request, queued, self._config.max_running - (len(self._in_flight) - len(queued)))

    async def _tokens(self, answer: "_Answer", params: Any) -> AsyncIterator[TokenEvent]:
        """Yield what becomes final, and leave the reason in `answer`; leaving the generator stops vLLM's work."""
        request = answer.request
        stream = self._llm.generate(
            {"prompt_token_ids": list(request.prompt_ids)},
            params,
            request.request_id,
            lora_request=self._adapters.get(request.adapter_digest or ""),
            priority=answer.priority,
        )
        async with aclosing(stream):
            try:
                while True:
                    left = None if request.deadline is None else request.deadline - time.time()
                    if left is not None and left <= 0:
                        answer.reason = "deadline"
                        return
                    async with asyncio.timeout(left):
                        output = await anext(stream)
                    if (event := answer.take(output, self._end_ids)) is not None:
                        yield event
                    if answer.detokenizer.stopped or output.finished:
                        return
            except TimeoutError:
                answer.reason = "deadline"
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except Exception as error:  # of vLLM's: this request fails, and `errored` tells whether all do
                answer.reason, answer.error = "error", f"{type(error).__name__}: {error}"


@dataclass(eq=False, slots=True)
class _Answer:
    """The state of one request."""

    request: GenerationRequest
    detokenizer: Detokenizer
    start: float = field(default_factory=time.monotonic)
    priority: int = 0
    """The smaller, the earlier vLLM begins it."""
    reason: FinishReason = "stop"
    error: str | None = None
    generated: int = 0
    cached: int = 0
    first_token_s: float | None = None
    unsent: list[int] = field(default_factory=list)
    unsent_logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)

    def take(self, output: Any, end_ids: frozenset[int]) -> TokenEvent | None:
        """Add what vLLM has generated, and return what may be shown."""
        part = output.outputs[0]
        self.first_token_s = self.first_token_s or time.monotonic() - self.start
        self.generated += len(part.token_ids)
        self.cached = output.num_cached_tokens or 0
        ids = list(part.token_ids)
        if part.finish_reason == "stop" and ids and ids[-1] in end_ids:
            ids.pop()
        if part.finish_reason is not None:
            self.reason = "length" if part.finish_reason == "length" else "stop"
        self.unsent += ids
        self._score(output.prompt_logprobs)
        if part.logprobs and self.request.sampling.logprobs is not None:
            for token, found in zip(ids, part.logprobs, strict=False):
                self.unsent_logprobs.append(_logprob(token, found, self.request.sampling.logprobs))
        text = self.detokenizer.push(ids) if ids else ""
        if self.detokenizer.stopped:
            self.reason = "stop"
        return self._event(text) if text else None

    def rest(self) -> TokenEvent | None:
        """Return the last of the text and tokens."""
        text = self.detokenizer.finish()
        return self._event(text) if text or self.unsent else None

    def finish(self, reason: FinishReason, error: str | None) -> FinishEvent:
        """Return the last event. vLLM does not say when a request left its queue: the first token stands for it."""
        total = time.monotonic() - self.start
        usage = Usage(len(self.request.prompt_ids), self.generated, self.cached)
        queue_s = total if self.first_token_s is None else 0.0
        timings = Timings(queue_s, self.first_token_s, total)
        return FinishEvent(reason, usage, timings, error, tuple(self.prompt_logprobs))

    def _score(self, found: list[Any] | None) -> None:
        alternatives = self.request.sampling.prompt_logprobs
        if found and alternatives is not None and not self.prompt_logprobs:
            pairs = zip(self.request.prompt_ids[1:], found[1:], strict=True)  # the first token has no prediction
            self.prompt_logprobs = [_logprob(token, values, alternatives) for token, values in pairs]

    def _event(self, text: str) -> TokenEvent:
        event = TokenEvent(text, tuple(self.unsent), tuple(self.unsent_logprobs))
        self.unsent, self.unsent_logprobs = [], []
        return event


def _structured(structure: Structure) -> Any:
    from vllm.sampling_params import StructuredOutputsParams

    grammar_of(structure)  # what cannot be kept is refused here, as by the other engine
    if structure.kind == "json":
        return StructuredOutputsParams(json=structure.value)
    if structure.kind == "regex":
        return StructuredOutputsParams(regex=structure.value)
    if structure.kind == "tools":
        return StructuredOutputsParams(grammar=grammar_of(structure))
    return StructuredOutputsParams(choice=structure.parsed())


def _sampling_params(sampling: SamplingParams, room: int, end_ids: frozenset[int]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    try:
        return SamplingParams(
            max_tokens=min(sampling.max_new_tokens, room),
            min_tokens=min(sampling.min_new_tokens, sampling.max_new_tokens, room),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            seed=sampling.seed,
            ignore_eos=sampling.ignore_eos,
            stop_token_ids=[] if sampling.ignore_eos else sorted(end_ids),
            logprobs=sampling.logprobs,
            prompt_logprobs=sampling.prompt_logprobs,
            logit_bias=dict(sampling.logit_bias) or None,
            structured_outputs=None if sampling.structure is None else _structured(sampling.structure),
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
    except ValueError as error:
        raise InputError(f"vLLM refuses the sampling of this request: {error}") from error


def _logprob(token: int, found: Any, alternatives: int) -> TokenLogprob:
    best = sorted(((other, value.logprob) for other, value in found.items()), key=lambda pair: -pair[1])
    return TokenLogprob(token, found[token].logprob, tuple(best[:alternatives]))
