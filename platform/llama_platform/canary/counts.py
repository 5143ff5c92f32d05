"""Counts of what requests came to, by version, while a canary has a share of an alias's traffic.

Each process that answers keeps one document for each generation of an alias, `canaries/<name>/<alias>/counts/
<generation>/<process>.json`, and writes it anew every few seconds: nobody else writes it; whoever reads adds them up.
"""

import threading
from collections.abc import Iterable
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from llama_platform.errors import IntegrityError
from llama_platform.storage.base import ObjectStore

ROOT = "canaries"
STEPS_PER_DOUBLING = 2
"""Buckets of a histogram for each doubling of a value."""


class Histogram(BaseModel):
    """How many values fell into buckets whose bounds grow by the square root of two."""

    model_config = ConfigDict(extra="forbid")

    buckets: dict[int, int] = {}

    def add(self, value: float) -> None:
        """Count a value, 1 at least."""
        bucket = _bucket(value)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def merge(self, other: "Histogram") -> None:
        """Add what another one counted."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    @property
    def total(self) -> int:
        """Return how many values were counted."""
        return sum(self.buckets.values())

    def above(self, bucket: int) -> int:
        """Return how many values are in buckets above one."""
        return sum(count for number, count in self.buckets.items() if number > bucket)

    def quantile(self, share: float) -> int:
        """Return the lowest bucket that has, with those below it, at least a share of the values."""
        reached = 0
        for bucket in sorted(self.buckets):
            reached += self.buckets[bucket]
            if reached >= share * self.total:
                return bucket
        return 0


class Observation(NamedTuple):
    """What one request came to."""

    failed: bool = False
    """Ended with an error that is not the client's."""
    refused: bool = False
    """A rule or a moderator let the answer not pass."""
    ungrounded: bool = False
    """The answer is not what its sources say; of requests with sources only."""
    unended: bool = False
    """The answer ran into the bound on its length."""
    first_token_ms: float | None = None
    answer_tokens: int | None = None


class ArmCounts(BaseModel):
    """What the requests of one version came to."""

    model_config = ConfigDict(extra="forbid")

    requests: int = 0
    failed: int = 0
    refused: int = 0
    ungrounded: int = 0
    unended: int = 0
    disliked: int = 0
    """Answers that users rated `down`."""
    first_token_ms: Histogram = Histogram()
    answer_tokens: Histogram = Histogram()

    def observe(self, one: Observation) -> None:
        """Count a request."""
        self.requests += 1
        self.failed += one.failed
        self.refused += one.refused
        self.ungrounded += one.ungrounded
        self.unended += one.unended
        if one.first_token_ms is not None:
            self.first_token_ms.add(one.first_token_ms)
        if one.answer_tokens is not None:
            self.answer_tokens.add(one.answer_tokens)

    def merge(self, other: "ArmCounts") -> None:
        """Add what another process counted."""
        for name in ArmCounts.model_fields:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, Histogram):
                mine.merge(theirs)
            else:
                setattr(self, name, mine + theirs)


class SplitKey(NamedTuple):
    """A generation of an alias in which a canary has a share of its traffic."""

    name: str
    alias: str
    generation: int


Arms = dict[int, ArmCounts]
"""Counts by version."""
_ARMS = TypeAdapter(Arms)


class SplitBook:
    """What one process has counted; any thread may add and write."""

    def __init__(self, store: ObjectStore, writer: str) -> None:
        """Begin with nothing; `writer` names the process, and no other ever has its name."""
        self._store, self._writer = store, writer
        self._counts: dict[SplitKey, Arms] = {}
        self._changed: set[SplitKey] = set()
        self._lock = threading.Lock()

    def observe(self, split: SplitKey, version: int, one: Observation) -> None:
        """Count a request that a version answered."""
        with self._lock:
            self._arm(split, version).observe(one)

    def disliked(self, split: SplitKey, version: int) -> None:
        """Count an answer that a user rated `down`."""
        with self._lock:
            self._arm(split, version).disliked += 1

    def write(self) -> None:
        """Write what has changed since the last time.

        Raises:
            StorageError: the store cannot be written; the next time writes the same and what has come.
        """
        with self._lock:
            content = {split: _ARMS.dump_json(self._counts[split]) for split in self._changed}
            self._changed.clear()
        try:
            for split, document in content.items():
                self._store.write(f"{counts_folder(split)}{self._writer}.json", document)
        except BaseException:
            with self._lock:
                self._changed.update(content)
            raise

    def _arm(self, split: SplitKey, version: int) -> ArmCounts:
        self._changed.add(split)
        return self._counts.setdefault(split, {}).setdefault(version, ArmCounts())


def counts_folder(split: SplitKey) -> str:
    """Return the folder of the documents of a generation, with a slash at its end."""
    return f"{ROOT}/{split.name}/{split.alias}/counts/{split.generation}/"


def read_counts(store: ObjectStore, split: SplitKey) -> Arms:
    """Return what all processes have counted of a generation.

    Raises:
        IntegrityError: a document is damaged.
    """
    total: Arms = {}
    for key in store.list_keys(counts_folder(split)):
        try:
            found = _ARMS.validate_json(store.read(key).content)
        except ValidationError as error:
            raise IntegrityError(f"{store.root}/{key}: damaged: {error}") from error
        for version, counts in found.items():
            total.setdefault(version, ArmCounts()).merge(counts)
    return total


def upper_bound(bucket: int) -> float:
    """Return the value that a bucket of a histogram ends at."""
    return float(2 ** ((bucket + 1) / STEPS_PER_DOUBLING))


def sum_of(arms: Iterable[ArmCounts]) -> ArmCounts:
    """Return several counts as one."""
    total = ArmCounts()
    for counts in arms:
        total.merge(counts)
    return total


def _bucket(value: float) -> int:
    number = 0
    while upper_bound(number) <= max(value, 1.0):
        number += 1
    return number
