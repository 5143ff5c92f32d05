"""TransformersEngine: an engine over transformers' `generate`, one request at a time."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from llama_platform.inference.detokenizer import Detokenizer
from llama_platform.inference.engine import (
    EngineStats,
    FinishEvent,
    FinishReason,
    GenerationRequest,
    Sampling,
    Timings,
    TokenEvent,
    Usage,
)
from llama_platform.models.adapter import AdapterSet
from llama_platform.models.base_model import BaseConfig, load_base_model


class TransformersEngine:
    """Loads a base and generates in one thread of its own; further requests wait in order."""

    def __init__(self, base: BaseConfig, tokenizer: Any, threads: int | None = None) -> None:
        """Load the base onto the GPU if there is one.

        Args:
            base: what to load.
            tokenizer: the base's.
            threads: of computation on the CPU; None leaves torch's own choice.

        Raises:
            InputError: the base cannot be loaded.
        """
        self._tokenizer = tokenizer
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load_base_model(base).eval().to(self._device)
        self.context_length = int(model.config.max_position_embeddings)
        self._adapters = AdapterSet(model)
        self._running = self._waiting = self._completion_tokens = 0
        if threads:
            # The count belongs to a thread: set it where the work is done.
            self._executor.submit(torch.set_num_threads, threads).result()

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TokenEvent | FinishEvent]:
        """Yield the answer; see Engine."""
        start, loop = time.monotonic(), asyncio.get_running_loop()
        events: asyncio.Queue[TokenEvent | FinishEvent] = asyncio.Queue()
        answer = _Answer(
            request,
            Detokenizer(self._tokenizer, request.sampling.stop),
            lambda event: loop.call_soon_threadsafe(events.put_nowait, event),
            start,
            self._tokenizer.eos_token_id,
        )
        self._waiting += 1
        self._executor.submit(self._run, answer)
        try:
            while True:
                event = await events.get()
                yield event
                if isinstance(event, FinishEvent):
                    return
        finally:
            answer.cancelled.set()

    async def load_adapter(self, digest: str, folder: Path) -> None:
        """Load between two requests; see Engine."""
        await asyncio.wrap_future(self._executor.submit(self._adapters.load, digest, folder))

    async def unload_adapter(self, digest: str) -> None:
        """Unload between two requests; see Engine."""
        await asyncio.wrap_future(self._executor.submit(self._adapters.unload, digest))

    def stats(self) -> EngineStats:
        """Return the load and, with CUDA, the memory of the device; see Engine."""
        memory = {"cuda_allocated_bytes": torch.cuda.memory_allocated()} if torch.cuda.is_available() else {}
        return EngineStats(self._running, self._waiting, self._adapters.digests(), self._completion_tokens, memory)

    async def close(self) -> None:
        """Let the running request end and refuse others; see Engine."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, answer: "_Answer") -> None:
        self._waiting -= 1
        self._running += 1
        reason: FinishReason = "error"
        error = None
        try:
            answer.queue_s = time.monotonic() - answer.start
            if answer.should_end() is None:
                self._generate(answer)
            reason = answer.reason()
        except Exception as exception:  # one request must not take the engine's thread with it
            error = f"{type(exception).__name__}: {exception}"
        finally:
            self._running -= 1
            self._completion_tokens += len(answer.token_ids)
            answer.finish(reason, error)

    @torch.inference_mode()
    def _generate(self, answer: "_Answer") -> None:
        request = answer.request
        ids = torch.tensor([request.prompt_ids], device=self._device)
        if request.sampling.seed is None:
            torch.seed()  # an earlier request's seed must not decide this one
        else:
            torch.manual_seed(request.sampling.seed)
        with self._adapters.active(request.adapter_digest) as model:
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                streamer=_Streamer(answer),
                stopping_criteria=StoppingCriteriaList([_Ended(answer)]),
                pad_token_id=self._tokenizer.eos_token_id,
                **_generation_arguments(request.sampling),
            )


class _Answer:
    """The state of one request, shared by the engine's thread and the event loop."""

    def __init__(
        self, request: GenerationRequest, detokenizer: Detokenizer, emit: Any, start: float, eos_token_id: int
    ) -> None:
        self.request, self.start = request, start
        self._eos_token_id = eos_token_id
        self.token_ids: list[int] = []
        self.cancelled = threading.Event()
        self.queue_s = 0.0
        self._first_token_s: float | None = None
        self._detokenizer, self._emit = detokenizer, emit

    def push(self, token_id: int) -> None:
        self._first_token_s = self._first_token_s or time.monotonic() - self.start
        self.token_ids.append(token_id)
        if text := self._detokenizer.push([token_id]):
            self._emit(TokenEvent(text, (token_id,)))

    def should_end(self) -> FinishReason | None:
        if self.cancelled.is_set():
            return "cancelled"
        if self._detokenizer.stopped:
            return "stop"
        return "deadline" if self.request.deadline is not None and time.time() > self.request.deadline else None

    def reason(self) -> FinishReason:
        ended = self.should_end()
        if ended is not None:
            return ended
        full = len(self.token_ids) >= self.request.sampling.max_new_tokens
        return "length" if full and self.token_ids[-1] != self._eos_token_id else "stop"

    def finish(self, reason: FinishReason, error: str | None) -> None:
        if rest := self._detokenizer.finish():
            self._emit(TokenEvent(rest, ()))
        usage = Usage(len(self.request.prompt_ids), len(self.token_ids))
        timings = Timings(self.queue_s, self._first_token_s, time.monotonic() - self.start)
        self._emit(FinishEvent(reason, usage, timings, error))


class _Streamer(BaseStreamer):  # type: ignore[misc]
    """Hands tokens over as `generate` makes them."""

    def __init__(self, answer: _Answer) -> None:
        self._answer, self._prompt_seen = answer, False

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt_seen:  # the first call carries the prompt
            self._prompt_seen = True
            return
        self._answer.push(int(value.reshape(-1)[0]))

    def end(self) -> None:
        """Nothing is left to hand over."""


class _Ended(StoppingCriteria):  # type: ignore[misc]
    """Ends `generate` on cancellation, deadline or a stop text."""

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        ended = self._answer.should_end() is not None
        return torch.full((input_ids.shape[0],), ended, dtype=torch.bool, device=input_ids.device)


def _generation_arguments(sampling: Sampling) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "max_new_tokens": sampling.max_new_tokens,
        "repetition_penalty": sampling.repetition_penalty,
        "do_sample": sampling.temperature > 0,
    }
    if sampling.temperature > 0:
        arguments |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    return arguments
