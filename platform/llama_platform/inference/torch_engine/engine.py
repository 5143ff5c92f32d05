"""TorchEngine: many requests, each with its own adapter, in one pass over the weights.

One thread owns the model. It computes step after step while there is work, and tells the event loop once per step what
became of all requests. Loading an adapter happens beside it.
"""

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from llama_platform.errors import EngineError, InputError, NotFiniteError
from llama_platform.inference.config import EngineConfig
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
from llama_platform.inference.queue_bounds import check_queue
from llama_platform.inference.torch_engine.adapter_pool import AdapterPool
from llama_platform.inference.torch_engine.architecture import Architecture
from llama_platform.inference.torch_engine.batch import Batch, Chunk, arrange
from llama_platform.inference.torch_engine.kv_cache import PagePool
from llama_platform.inference.torch_engine.loader import adapter_memory, load_model
from llama_platform.inference.torch_engine.model import Reading
from llama_platform.inference.torch_engine.prefill_budget import PrefillBudget
from llama_platform.inference.torch_engine.sampler import Sampler, token_logprob
from llama_platform.inference.torch_engine.scheduler import ScheduledChunk, Scheduler, Sequence
from llama_platform.inference.torch_engine.token_mask import TokenMask, TokenMasks
from llama_platform.models.base_model import BaseConfig, base_folder, end_ids

_log = logging.getLogger(__name__)
MAX_ADAPTER_RANK = 256
"""The largest rank of adapters where none is configured."""
_BROKEN_AFTER = 3
"""Steps that break one after another before the engine gives up."""


class TorchEngine:
    """An engine of our own; see Engine."""

    keeps_folders = False

    def __init__(
        self, base: BaseConfig, tokenizer: Any, threads: int | None = None, config: EngineConfig | None = None
    ) -> None:
        """Load the base and start.

        Args:
            base: what to load.
            tokenizer: the base's.
            threads: number of threads of computation on the CPU; None leaves torch's own choice.
            config: sizes.

        Raises:
            InputError: the base cannot be loaded or served.
        """
        self._config = config or EngineConfig()
        self._threads = threads or torch.get_num_threads()
        folder = base_folder(base)
        self._model, self.context_length, pages = load_model(folder, base.dtype, self._threads, self._config)
        self._tokenizer, self._end_ids = tokenizer, end_ids(folder, tokenizer)
        self._masks = TokenMasks(tokenizer, self._model.architecture.vocab_size, self._end_ids)
        self._adapters = AdapterPool(
            self._model,
            adapter_memory(self._model.architecture, base.dtype, self._config),
            self._config.max_adapter_rank or MAX_ADAPTER_RANK,
        )
        self._pool = PagePool(pages, self._config.prefix_cache)
        self._scheduler = Scheduler(self._pool, self._config.max_running)
        self._budget = PrefillBudget(self._config.max_step_tokens)
        self._answers: dict[Sequence, _Answer] = {}
        self._arrived: list[_Answer] = []
        self._change = threading.Condition()
        self._closing = False
        self._completion_tokens = self._failures = self._failures_in_a_row = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TokenEvent | FinishEvent]:
        """Yield the answer; see Engine."""
        structure = request.sampling.structure
        mask = None if structure is None else await asyncio.to_thread(self._masks.make, structure)
        answer = self._accept(request, mask)
        try:
            while True:
                event = await answer.events.get()
                yield event
                if isinstance(event, FinishEvent):
                    return
        finally:
            with self._change:
                answer.cancelled = True
                self._change.notify()

    async def load_adapter(self, digest: str, folder: Path, pinned: bool = False) -> None:
        """Load an adapter while others generate; see Engine.

        Raises:
            IntegrityError: the folder holds no usable adapter, or one that does not fit the base.
            UnavailableError: there is no room beside the adapters in use.
        """
        await asyncio.to_thread(self._adapters.load, digest, folder, pinned)

    def hold_adapter(self, digest: str) -> bool:
        """Keep an adapter loaded; see Engine."""
        return self._adapters.acquire(digest) is not None

    def release_adapter(self, digest: str) -> None:
        """Let an adapter be unloaded; see Engine."""
        self._adapters.release(digest)

    def pin_adapter(self, digest: str) -> bool:
        """Keep a loaded adapter when others need its place; see Engine."""
        return self._adapters.pin(digest)

    def unpin_adapter(self, digest: str) -> None:
        """Let an adapter go when others need its place; see Engine."""
        self._adapters.unpin(digest)

    async def unload_adapter(self, digest: str) -> None:
        """Free an adapter when its last request has ended; see Engine."""
        self._adapters.unload(digest)

    def stats(self) -> EngineStats:
        """Return the present load; see Engine."""
        with self._change:
            waiting = len(self._arrived) + len(self._answers) - len(self._scheduler.running)
            memory = {**self._model.memory(), "adapter_bytes": self._adapters.size_bytes}
            return EngineStats(
                running=len(self._scheduler.running),
                waiting=max(0, waiting),
                adapters=self._adapters.digests(),
                completion_tokens=self._completion_tokens,
                memory=memory,
                healthy=self._thread.is_alive() and self._failures_in_a_row < _BROKEN_AFTER,
                failures=self._failures,
                preempted=self._scheduler.preempted,
                refused_adapters=self._adapters.refused(),
                products=self._model.products_in_words(),
            )

    @property
    def architecture(self) -> Architecture:
        """Return the shape of the base."""
        return self._model.architecture

    def reading(self) -> Reading | None:
        """Return how fast the weights can be read, while nothing is generated; None where that is not measured."""
        return self._model.reading()

    async def close(self) -> None:
        """End every request as cancelled, and stop; see Engine."""
        with self._change:
            self._closing = True
            self._change.notify()
        await asyncio.to_thread(self._thread.join)
        self._masks.close()

    def _accept(self, request: GenerationRequest, mask: TokenMask | None) -> "_Answer":
        prompt, sampling = request.prompt_ids, request.sampling
        check_prompt(prompt, self.context_length, self._model.architecture.vocab_size)
        room = self.context_length - len(prompt)
        sequence = Sequence(
            prompt,
            min(sampling.max_new_tokens, room),
            request.adapter_digest,
            request.priority,
            scored=sampling.prompt_logprobs is not None,
            tenant=request.tenant,
            weight=request.weight,
        )
        answer = _Answer(
            request,
            sequence,
            Sampler(sampling, prompt, self._end_ids, mask),
            Detokenizer(self._tokenizer, sampling.stop, prompt, sampling.min_new_tokens, continues=request.continues),
            asyncio.get_running_loop(),
        )
        with self._change:
            if self._closing or self._failures_in_a_row >= _BROKEN_AFTER or not self._thread.is_alive():
                raise EngineError(
                    "the engine is closed" if self._closing else "the engine has broken and needs a restart"
                )
            self._check_queue(request)
            if request.adapter_digest is not None:
                # Here and not in the engine's thread: until that looks, another adapter could take its place.
                answer.adapter = self._adapters.acquire(request.adapter_digest)
            self._arrived.append(answer)
            self._change.notify()
        return answer

    def _check_queue(self, request: GenerationRequest) -> None:
        """Check that there is a place to wait.

        Raises:
            OverloadedError: there is none, or others of the tenant have half of the places already.
        """
        running = set(map(id, self._scheduler.running))
        queued = [*self._arrived, *(one for one in self._answers.values() if id(one.sequence) not in running)]
        free = self._config.max_running - len(running)
        check_queue(self._config, request, [one.request for one in queued], free)

    def _run(self) -> None:
        torch.set_num_threads(self._threads)  # the count belongs to a thread
        torch.set_grad_enabled(False)
        while True:
            with self._change:
                while not (self._arrived or self._answers or self._closing):
                    self._change.wait()
                arrived, self._arrived = self._arrived, []
                for answer in arrived:
                    self._answers[answer.sequence] = answer
            events = _Events()
            for answer in arrived:
                self._enter(answer, events)
            if self._closing:
                for answer in list(self._answers.values()):
                    self._end(answer, "cancelled", events)
                events.deliver()
                return
            self._end_overdue(events)
            generating = self._generating()
            scheduled = self._scheduler.schedule(self._budget.tokens(generating, len(self._answers) - generating))
            if scheduled:
                self._step(scheduled, events)
            events.deliver()

    def _enter(self, answer: "_Answer", events: "_Events") -> None:
        try:
            if answer.request.adapter_digest is not None and answer.adapter is None:
                raise EngineError(f"adapter {answer.request.adapter_digest} is not loaded")
            self._scheduler.add(answer.sequence)
        except (EngineError, InputError) as error:
            self._end(answer, "error", events, str(error))

    def _end_overdue(self, events: "_Events") -> None:
        now = time.time()
        for answer in list(self._answers.values()):
            deadline = answer.request.deadline
            if answer.cancelled:
                self._end(answer, "cancelled", events)
            elif deadline is not None and now > deadline:
                self._end(answer, "deadline", events)

    def _generating(self) -> int:
        return sum(len(s.tokens) - s.computed == 1 for s in self._scheduler.running)

    def _step(self, scheduled: list[ScheduledChunk], events: "_Events") -> None:
        start = time.monotonic()
        for chunk in scheduled:
            answer = self._answers[chunk.sequence]
            if answer.queue_s is None:
                answer.queue_s = start - answer.start
        try:
            batch, adapters = self._batch(scheduled)
            logits = self._model.forward(batch, adapters)
        except Exception as error:  # whatever broke, the engine's thread must go on
            self._recover(error, events)
            return
        self._failures_in_a_row = 0
        self._scheduler.update(scheduled)
        self._sample([scheduled[place] for place in batch.order], logits, events)
        prompt_tokens = sum(chunk.tokens for chunk in scheduled if chunk.tokens > 1)
        self._budget.note(sum(chunk.tokens == 1 for chunk in scheduled), prompt_tokens, time.monotonic() - start)

    def _batch(self, scheduled: list[ScheduledChunk]) -> tuple[Batch, list[Any]]:
        places: dict[str, int] = {}
        adapters: list[Any] = []
        parts = []
        for chunk in scheduled:
            sequence, adapter = chunk.sequence, -1
            if sequence.adapter is not None:
                if sequence.adapter not in places:
                    places[sequence.adapter] = len(adapters)
                    adapters.append(self._answers[sequence].adapter)
                adapter = places[sequence.adapter]
            tokens = sequence.tokens[sequence.computed : sequence.computed + chunk.tokens]
            parts.append(Chunk(tokens, sequence.computed, sequence.pages, adapter, chunk.logits))
        return arrange(parts), adapters

    def _sample(self, scheduled: list[ScheduledChunk], logits: torch.Tensor, events: "_Events") -> None:
        if not len(logits):
            return
        values = logits.numpy()  # its argmax is an order of magnitude faster than torch's
        best = values.argmax(axis=1).tolist()
        highest = values[range(len(best)), best].tolist()
        end = 0
        for chunk in scheduled:
            answer, first, end = self._answers[chunk.sequence], end, end + chunk.logits
            try:
                if chunk.sequence.scored:
                    answer.score(logits[first:end], chunk.sequence.computed - chunk.logits)
                if not chunk.samples:
                    continue
                row = end - 1
                if answer.sampler.plain and abs(highest[row]) < float("inf"):
                    token, logprob = best[row], None
                    answer.sampler.note(token)
                else:
                    token, logprob = answer.sampler.choose(logits[row])
                self._continue(answer, token, logprob, events)
            except NotFiniteError as error:
                self._pool.forget(answer.sequence.pages)  # they hold what would spoil whoever shares them
                self._end(answer, "error", events, str(error))
                if answer.request.adapter_digest is not None:
                    self._adapters.blame(answer.request.adapter_digest, str(error))
            except Exception as error:  # one request must not take the others with it
                _log.exception("request %s failed", answer.request.request_id)
                self._end(answer, "error", events, f"{type(error).__name__}: {error}")
        self._masks.compute()

    def _continue(self, answer: "_Answer", token: int, logprob: TokenLogprob | None, events: "_Events") -> None:
        """Add a token to an answer, and end it if it was the last."""
        answer.first_token_s = answer.first_token_s or time.monotonic() - answer.start
        answer.sequence.tokens.append(token)
        self._completion_tokens += 1
        generated, sampling = answer.sequence.generated, answer.request.sampling
        if token in self._end_ids and not sampling.ignore_eos:
            self._end(answer, "stop", events)
            return
        answer.unsent.append(token)
        if logprob is not None:
            answer.unsent_logprobs.append(logprob)
        answer.send(answer.detokenizer.push([token]), events)
        if answer.detokenizer.stopped or answer.sampler.ended:
            self._end(answer, "stop", events)
        elif generated >= answer.sequence.max_new_tokens:
            self._end(answer, "length", events)

    def _recover(self, error: Exception, events: "_Events") -> None:
        """Fail what was running, and begin anew with an empty cache; what waits goes on waiting."""
        _log.error("a step broke; its requests fail, and the cache is rebuilt", exc_info=error)
        self._failures += 1
        self._failures_in_a_row += 1
        broken = self._failures_in_a_row >= _BROKEN_AFTER
        for answer in list(self._answers.values()):
            if broken or answer.sequence in self._scheduler.running:
                self._end(answer, "error", events, f"the step broke: {type(error).__name__}: {error}")
        self._pool.reset()
        try:
            self._model.reset_cache()
        except Exception:  # as after a lost GPU: the next step will break too, and end this
            _log.exception("the KV cache cannot be rebuilt")

    def _end(self, answer: "_Answer", reason: FinishReason, events: "_Events", error: str | None = None) -> None:
        self._scheduler.remove(answer.sequence)
        with self._change:
            del self._answers[answer.sequence]
        if answer.adapter is not None:
            self._adapters.release(answer.request.adapter_digest or "")
        if reason != "error":
            answer.send(answer.detokenizer.finish(), events, last=True)
        sequence, total = answer.sequence, time.monotonic() - answer.start
        usage = Usage(len(sequence.prompt_ids), sequence.generated, sequence.cached)
        queue_s = total if answer.queue_s is None else answer.queue_s
        timings = Timings(queue_s, answer.first_token_s, total)
        events.add(answer, FinishEvent(reason, usage, timings, error, tuple(answer.prompt_logprobs)))


@dataclass(eq=False, slots=True)
class _Answer:
    """The state of one request; `cancelled` is set by the event loop, all else by the engine's thread."""

    request: GenerationRequest
    sequence: Sequence
    sampler: Sampler
    detokenizer: Detokenizer
    loop: asyncio.AbstractEventLoop
    events: "asyncio.Queue[TokenEvent | FinishEvent]" = field(default_factory=asyncio.Queue)
    start: float = field(default_factory=time.monotonic)
    adapter: Any = None
    cancelled: bool = False
    queue_s: float | None = None
    first_token_s: float | None = None
    unsent: list[int] = field(default_factory=list)
    unsent_logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)

    def score(self, logits: torch.Tensor, position: int) -> None:
        """Record the log-probabilities of tokens of the prompt.

        Args:
            logits: float32 [tokens, vocabulary], after consecutive tokens.
            position: place of the first of these in the prompt.
        """
        prompt, alternatives = self.request.prompt_ids, self.request.sampling.prompt_logprobs or 0
        for row, place in enumerate(range(position + 1, min(position + 1 + len(logits), len(prompt)))):
            self.prompt_logprobs.append(token_logprob(logits[row], prompt[place], alternatives))

    def send(self, text: str, events: "_Events", last: bool = False) -> None:
        """Send text that has become final, with the tokens since the last event."""
        if text or (last and self.unsent):
            events.add(self, TokenEvent(text, tuple(self.unsent), tuple(self.unsent_logprobs)))
            self.unsent, self.unsent_logprobs = [], []


class _Events:
    """What a step has to tell."""

    def __init__(self) -> None:
        self._by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Answer, TokenEvent | FinishEvent]]] = defaultdict(
            list
        )

    def add(self, answer: _Answer, event: TokenEvent | FinishEvent) -> None:
        """Add an event of an answer."""
        self._by_loop[answer.loop].append((answer, event))

    def deliver(self) -> None:
        """Wake each event loop once."""
        for loop, events in self._by_loop.items():
            try:
                loop.call_soon_threadsafe(_put, events)
            except RuntimeError:  # the loop is closed: nobody is left to hear
                for answer, _ in events:
                    answer.cancelled = True


def _put(events: list[tuple[_Answer, TokenEvent | FinishEvent]]) -> None:
    for answer, event in events:
        answer.events.put_nowait(event)
