"""Scheduler: what is computed in the next step. Pure Python: no tensors, no clock, no threads.

Every running sequence that generates gets its token in every step. What is left of the step goes to prompts, in chunks:
half of it to the one that was admitted first, so that none starves, the rest to the shortest, so that a short prompt
never waits for the end of a long one and joins the others soon. A sequence is admitted when there is a slot
and the KV cache has room for its prompt and its longest answer: nothing that runs is ever thrown out again. Admission
is in order of priority, then of arrival. Where there is no room for a long request, shorter ones behind it may go
first, but only MOST_OVERTAKES of them: it cannot starve.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from llama_platform.errors import InputError
from llama_platform.inference.torch_engine.batch import PAGE
from llama_platform.inference.torch_engine.kv_cache import PagePool

MOST_OVERTAKES = 16
"""Sequences that may be admitted before one that has waited longer."""
MOST_LOOKED_AT = 16
"""Waiting sequences that a step looks at for one that there is room for."""


@dataclass(eq=False, slots=True)
class Sequence:
    """One request on its way."""

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    adapter: str | None = None
    priority: int = 0
    """The larger, the earlier it is admitted."""
    tokens: list[int] = field(default_factory=list)
    """The prompt, and what was generated."""
    computed: int = 0
    """Tokens whose keys and values are in the cache."""
    cached: int = 0
    """Tokens of the prompt that the cache held at admission."""
    pages: list[int] = field(default_factory=list)
    cached_pages: int = 0
    """Pages that other sequences can find."""
    content: int = 0
    """The pool's name for what these hold."""
    overtaken: int = 0
    """Later sequences that were admitted before it."""
    scored: bool = False
    """Whether logits are wanted after every token of the prompt."""

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt_ids)

    @property
    def generated(self) -> int:
        """Return how many tokens were generated."""
        return len(self.tokens) - len(self.prompt_ids)

    @property
    def total_pages(self) -> int:
        """Return the pages that it needs to its end; the last token generated is never computed."""
        return -(-(len(self.prompt_ids) + self.max_new_tokens - 1) // PAGE)


@dataclass(frozen=True, slots=True)
class ScheduledChunk:
    """Tokens of one sequence that are computed in a step."""

    sequence: Sequence
    tokens: int
    samples: bool
    """Whether the step yields its next token."""

    @property
    def logits(self) -> int:
        """Return after how many of its last tokens logits are wanted."""
        return self.tokens if self.sequence.scored else int(self.samples)


class Scheduler:
    """Holds waiting and running sequences."""

    def __init__(self, pool: PagePool, max_running: int) -> None:
        """Begin without sequences.

        Args:
            pool: pages of the KV cache.
            max_running: bound on the sequences at a time.
        """
        self._pool, self._max_running = pool, max_running
        self.running: list[Sequence] = []
        self._waiting: list[tuple[int, int, Sequence]] = []
        self._looked = False
        """Whether nothing has come or gone since no room was found for what waits."""
        self._arrivals = count()

    @property
    def waiting(self) -> list[Sequence]:
        """Return the sequences that wait, in order."""
        return [sequence for _, _, sequence in sorted(self._waiting, key=lambda entry: entry[:2])]

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait for its turn.

        Raises:
            InputError: it can never be admitted: the whole cache is too small for it.
        """
        if sequence.total_pages > self._pool.pages:
            raise InputError(
                f"{len(sequence.prompt_ids)} prompt tokens and {sequence.max_new_tokens} new ones need "
                f"{sequence.total_pages} pages; the KV cache has {self._pool.pages}"
            )
        self._looked = False
        heapq.heappush(self._waiting, (-sequence.priority, next(self._arrivals), sequence))

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is, and free what it holds; nothing happens if it is not here."""
        self._looked = False
        if sequence in self.running:
            self.running.remove(sequence)
            self._pool.release(sequence.pages)
            sequence.pages = []
        else:
            self._waiting = [entry for entry in self._waiting if entry[2] is not sequence]
            heapq.heapify(self._waiting)

    def schedule(self, prompt_tokens: int) -> list[ScheduledChunk]:
        """Admit what can be admitted, and return the chunks of the next step; empty if there are none.

        Args:
            prompt_tokens: how many tokens of prompts the step may compute beside the generating sequences.
        """
        self._admit()
        generating = [s for s in self.running if len(s.tokens) - s.computed == 1]
        reading = [s for s in self.running if len(s.tokens) - s.computed > 1]
        chunks = [ScheduledChunk(s, 1, True) for s in generating]
        return chunks + [
            ScheduledChunk(sequence, tokens, sequence.computed + tokens == len(sequence.tokens))
            for sequence, tokens in _share(reading, prompt_tokens, self._most_scored(reading)).items()
        ]

    def _most_scored(self, reading: list[Sequence]) -> int:
        """Return how many tokens of a scored prompt a step computes: it has logits for `max_running` in all."""
        scored = sum(sequence.scored for sequence in reading)
        return (self._max_running - len(self.running) + scored) // max(1, scored)

    def update(self, chunks: Iterable[ScheduledChunk]) -> None:
        """Count computed chunks; the caller appends generated tokens to `tokens` afterwards."""
        for chunk in chunks:
            sequence = chunk.sequence
            sequence.computed += chunk.tokens
            for place in range(sequence.cached_pages, sequence.computed // PAGE):
                tokens = sequence.tokens[place * PAGE : (place + 1) * PAGE]
                sequence.content = self._pool.cache_full_page(sequence.content, tokens, sequence.pages[place])
                sequence.cached_pages = place + 1

    def _admit(self) -> None:
        if self._looked:
            return
        passed: list[tuple[int, int, Sequence]] = []
        while self._waiting and len(self.running) < self._max_running and len(passed) < MOST_LOOKED_AT:
            entry = heapq.heappop(self._waiting)
            if self._start(entry[2]):
                for _, _, earlier in passed:
                    earlier.overtaken += 1
            else:
                passed.append(entry)
            if passed and max(earlier.overtaken for _, _, earlier in passed) >= MOST_OVERTAKES:
                break
        self._looked = True
        for entry in passed:
            heapq.heappush(self._waiting, entry)

    def _start(self, sequence: Sequence) -> bool:
        """Admit a sequence if there is room for it, and return whether there was."""
        # The last token of a prompt is always computed: its logits are the first answer.
        known = () if sequence.scored else sequence.prompt_ids[:-1]
        shared, content = self._pool.match(sequence.adapter, known)
        needed = sequence.total_pages - len(shared)
        if needed > self._pool.available:
            self._pool.release(shared)
            return False
        sequence.pages = shared + self._pool.allocate(needed)
        sequence.computed = sequence.cached = len(shared) * PAGE
        sequence.cached_pages, sequence.content = len(shared), content
        self.running.append(sequence)
        return True


def _share(reading: list[Sequence], prompt_tokens: int, most_scored: int) -> dict[Sequence, int]:
    """Return the tokens of each prompt that a step computes.

    Args:
        reading: sequences whose prompts are not computed to their ends, in order of admission.
        prompt_tokens: in all.
        most_scored: bound on the tokens of each scored prompt.
    """
    left = {sequence: len(sequence.tokens) - sequence.computed for sequence in reading}
    left |= {sequence: min(tokens, most_scored) for sequence, tokens in left.items() if sequence.scored}
    tokens = dict.fromkeys(reading, 0)
    shortest_first = sorted(reading, key=lambda sequence: left[sequence])
    shares = [(reading[0], -(-prompt_tokens // 2))] if reading else []
    for sequence, share in [*shares, *((s, prompt_tokens) for s in (*shortest_first, *reading[:1]))]:
        given = min(share, left[sequence] - tokens[sequence], prompt_tokens - sum(tokens.values()))
        tokens[sequence] += given
    return {sequence: given for sequence, given in tokens.items() if given}
