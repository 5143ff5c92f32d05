"""Scheduler: what is computed in the next step. Pure Python: no tensors, no clock, no threads.

Every running sequence that generates gets its token in every step. What is left of the step goes to prompts, in chunks:
half of it to the one that was admitted first, so that none starves, the rest to the shortest, so that a short prompt
never waits for the end of a long one and joins the others soon. A sequence is admitted when there is a slot
and the KV cache has room for what it has of tokens, the next RESERVE of its answer, and a page more for each that runs.
Admission is in order of priority, then of the tokens that were computed for its tenant (FairShare), then of arrival.
Where there is no room for a long request, shorter ones behind it may go first, but only MOST_OVERTAKES of them: it
cannot starve. An answer gets a page more whenever it has filled what it has.

What runs is preempted for two reasons. A tenant with fewer sequences waits, and another one holds more than its share
of the slots: its youngest sequence gives way. Or an answer needs a page and none is left: of the lowest priority, the
one that arrived last gives way. It waits again, and goes on where it was: its tokens are kept, and what is not found
again in the cache is computed again.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from llama_platform.errors import InputError
from llama_platform.inference.fair_share import FairShare
from llama_platform.inference.torch_engine.batch import PAGE
from llama_platform.inference.torch_engine.kv_cache import PagePool

MOST_OVERTAKES = 16
"""Sequences that may be admitted before one that has waited longer."""
RESERVE = 128
"""Tokens of an answer that there must be room for when it is admitted."""
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
    arrival: int = 0
    """Number of its arrival; set at admission."""
    begun: bool = False
    """Whether it has been admitted before."""
    overtaken: int = 0
    """Later sequences that were admitted before it."""
    scored: bool = False
    """Whether logits are wanted after every token of the prompt."""
    tenant: str = ""
    """Who shares the engine."""
    weight: float = 1.0
    """How much of it the tenant may have, compared with others."""

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

    @property
    def first_pages(self) -> int:
        """Return the pages that it is admitted with: a scored prompt is never preempted, and has all from the start."""
        return self.total_pages if self.scored else min(self.total_pages, -(-(len(self.tokens) + RESERVE) // PAGE))


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
        self._waiting: dict[Sequence, int] = {}
        """With the number of each arrival."""
        self._share = FairShare()
        self._looked = False
        """Whether nothing has come or gone since no room was found for what waits."""
        self._arrivals = count()
        self.preempted = 0
        """How often a sequence has given way."""

    @property
    def waiting(self) -> list[Sequence]:
        """Return the sequences that wait, in order."""
        return sorted(self._waiting, key=self._turn)

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
        self._waiting[sequence] = next(self._arrivals)
        self._share.arrive(sequence.tenant)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is, and free what it holds; nothing happens if it is not here."""
        self._looked = False
        if sequence in self.running:
            self._stop(sequence)
        elif self._waiting.pop(sequence, None) is None:
            return
        self._share.leave(sequence.tenant)

    def schedule(self, prompt_tokens: int) -> list[ScheduledChunk]:
        """Admit what can be admitted, and return the chunks of the next step; empty if there are none.

        Args:
            prompt_tokens: how many tokens of prompts the step may compute beside the generating sequences.
        """
        self._grow()
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
            if chunk.samples:
                self._share.charge(sequence.tenant, sequence.weight, answer_tokens=1)
            for place in range(sequence.cached_pages, sequence.computed // PAGE):
                tokens = sequence.tokens[place * PAGE : (place + 1) * PAGE]
                sequence.content = self._pool.cache_full_page(sequence.content, tokens, sequence.pages[place])
                sequence.cached_pages = place + 1

    def _grow(self) -> None:
        """Give answers that have filled their pages another one, the first of them before the last."""
        for sequence in sorted(self.running, key=_precedence):
            while sequence.pages and len(sequence.tokens) > len(sequence.pages) * PAGE:
                if self._pool.available:
                    sequence.pages += self._pool.allocate(1)
                else:  # at worst its own turn is over
                    self._preempt(max((s for s in self.running if not s.scored), key=_precedence))

    def _preempt(self, sequence: Sequence) -> None:
        self._stop(sequence)
        self._waiting[sequence] = sequence.arrival
        self._looked = False
        self.preempted += 1

    def _turn(self, sequence: Sequence) -> tuple[int, float, int, int]:
        """Return what waiting sequences are ordered by; of tenants that have used as much, who runs less is first."""
        running = sum(other.tenant == sequence.tenant for other in self.running) if sequence.tenant else 0
        return -sequence.priority, self._share.used(sequence.tenant), running, self._waiting[sequence]

    def _admit(self) -> None:
        if self._looked:
            return
        passed: list[Sequence] = []
        without: set[str] = set()
        """Tenants that get no slot while there is none and they have their share."""
        while len(passed) < MOST_LOOKED_AT:
            waiting = [s for s in self._waiting if s not in passed and s.tenant not in without]
            if not waiting:
                break
            sequence = min(waiting, key=self._turn)  # anew each time: who was admitted has used up its turn
            if self._make_room(sequence):
                for earlier in passed:
                    earlier.overtaken += 1
            elif len(self.running) >= self._max_running:
                without.add(sequence.tenant)
            else:
                passed.append(sequence)
            if passed and max(earlier.overtaken for earlier in passed) >= MOST_OVERTAKES:
                break
        self._looked = True

    def _make_room(self, sequence: Sequence) -> bool:
        """Admit a sequence, if need be in the place of others whose tenants have more than their share."""
        if len(self.running) < self._max_running and self._start(sequence):
            return True
        staying, victims = list(self.running), list[Sequence]()
        pages = self._pool.available
        while len(staying) >= self._max_running or pages < sequence.first_pages + len(staying):
            victim = _victim(sequence, staying)
            if victim is None:
                return False
            staying.remove(victim)
            victims.append(victim)
            pages += len(victim.pages)  # as many at most: what others share stays
        for victim in victims:
            self._preempt(victim)
        return self._start(sequence)

    def _stop(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._pool.release(sequence.pages)
        sequence.pages = []

    def _start(self, sequence: Sequence) -> bool:
        """Admit a sequence if there is room for it, and return whether there was."""
        # The last token of a prompt is always computed: its logits are the first answer.
        known = () if sequence.scored else sequence.tokens[:-1]
        shared, content = self._pool.match(sequence.adapter, known)
        needed = sequence.first_pages - len(shared)
        if needed + len(self.running) > self._pool.available:
            self._pool.release(shared)
            return False
        sequence.pages = shared + self._pool.allocate(needed)
        sequence.computed = len(shared) * PAGE
        sequence.cached_pages, sequence.content = len(shared), content
        if not sequence.begun:  # what it finds of itself, after it has given way, is no saving
            sequence.begun, sequence.cached = True, sequence.computed
            self._share.charge(sequence.tenant, sequence.weight, len(sequence.prompt_ids) - sequence.cached)
        sequence.arrival = self._waiting.pop(sequence)
        self.running.append(sequence)
        return True


def _precedence(sequence: Sequence) -> tuple[int, int]:
    """Return what running sequences are ordered by when pages are short: the last gives way."""
    return -sequence.priority, sequence.arrival


def _victim(waiting: Sequence, running: list[Sequence]) -> Sequence | None:
    """Return the youngest sequence of the tenant that has most, if that is more than a waiting one's would have."""
    slots = Counter(sequence.tenant for sequence in running)
    own = (slots[waiting.tenant] + 1) / waiting.weight
    candidates = [
        s
        for s in running
        if s.tenant != waiting.tenant
        and not s.scored
        and s.priority <= waiting.priority
        and slots[s.tenant] / s.weight > own
    ]
    return max(candidates, key=lambda s: (slots[s.tenant] / s.weight, s.arrival), default=None)


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
