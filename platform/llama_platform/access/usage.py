"""Usage: what was used by day, tenant, key and adapter, kept in the store.

Each process that answers keeps one document for a day, `usage/<day>/<process>.json`, and writes it anew every few
seconds: nobody else writes it, so that nothing is lost between writers; whoever reads adds them up.
"""

import csv
import io
import threading
from collections.abc import Iterable
from datetime import date, timedelta
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from llama_platform.errors import IntegrityError
from llama_platform.storage.base import ObjectStore

USAGE_FOLDER = "usage"


class UsageKey(NamedTuple):
    """What use is told apart by."""

    day: date
    tenant: str
    """Empty where nobody is asked for a key."""
    key: str
    """Id of the key; empty where nobody is asked for one."""
    adapter: str
    """Name of the adapter; empty for the base, and for what asks no model."""


class UsageCounts(BaseModel):
    """How much."""

    model_config = ConfigDict(extra="forbid")

    requests: int = 0
    failed: int = 0
    """Requests that ended with an error, refusals among them."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Tokens of prompts that were found in the cache; they count among `prompt_tokens`, too."""

    def add(self, other: "UsageCounts") -> None:
        """Add what another one counted."""
        for name in UsageCounts.model_fields:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class UsageRow(UsageCounts):
    """What one key used on one day with one adapter."""

    day: date
    tenant: str
    key: str
    adapter: str
    cost: float = 0
    """By the configuration's prices."""


class Prices(NamedTuple):
    """What 1,000 tokens cost."""

    prompt: float = 0
    cached: float = 0
    completion: float = 0

    def cost(self, counts: UsageCounts) -> float:
        """Return what tokens cost."""
        fresh = counts.prompt_tokens - counts.cached_tokens
        return (
            fresh * self.prompt + counts.cached_tokens * self.cached + counts.completion_tokens * self.completion
        ) / 1000


_ROWS = TypeAdapter(list[UsageRow])


class UsageBook:
    """What one process has answered; any thread may add and write."""

    def __init__(self, store: ObjectStore, writer: str) -> None:
        """Begin with nothing; `writer` names the process, and no other ever has its name."""
        self._store, self._writer = store, writer
        self._counts: dict[UsageKey, UsageCounts] = {}
        self._changed: set[date] = set()
        self._lock = threading.Lock()

    def add(self, key: UsageKey, counts: UsageCounts) -> None:
        """Count a request."""
        with self._lock:
            self._counts.setdefault(key, UsageCounts()).add(counts)
            self._changed.add(key.day)

    def write(self) -> None:
        """Write what has changed since the last time; days that are over are forgotten once they are written.

        Raises:
            StorageError: the store cannot be written; the next time writes the same and what has come.
        """
        with self._lock:
            changed, today = sorted(self._changed), max((key.day for key in self._counts), default=date.min)
            content = {day: _ROWS.dump_json(self._rows(day), exclude={"__all__": {"cost"}}) for day in changed}
            self._changed.clear()
        try:
            for day in changed:
                self._store.write(f"{USAGE_FOLDER}/{day}/{self._writer}.json", content[day])
        except BaseException:
            with self._lock:
                self._changed.update(changed)
            raise
        with self._lock:
            gone = [key for key in self._counts if key.day < today - timedelta(days=1) and key.day not in self._changed]
            for key in gone:
                del self._counts[key]

    def _rows(self, day: date) -> list[UsageRow]:
        return [
            UsageRow(**key._asdict(), **counts.model_dump()) for key, counts in self._counts.items() if key.day == day
        ]


def read_usage(
    store: ObjectStore,
    first: date,
    last: date,
    tenant: str | None = None,
    prices: Prices = Prices(),  # noqa: B008
) -> list[UsageRow]:
    """Return what was used from one day to another, added up over all processes, by day, tenant, key and adapter.

    Args:
        store: where processes have written it.
        first: the first day.
        last: the last day.
        tenant: whose; None for all.
        prices: what tokens cost.

    Raises:
        IntegrityError: a document is damaged.
    """
    total: dict[UsageKey, UsageCounts] = {}
    written = [day for day in store.list_folders(f"{USAGE_FOLDER}/") if f"{first}" <= day <= f"{last}"]
    for day in written:
        for name in store.list_keys(f"{USAGE_FOLDER}/{day}/"):
            try:
                rows = _ROWS.validate_json(store.read(name).content)
            except ValidationError as error:
                raise IntegrityError(f"{store.root}/{name}: damaged: {error}") from error
            for row in rows:
                if tenant is None or row.tenant == tenant:
                    key = UsageKey(row.day, row.tenant, row.key, row.adapter)
                    total.setdefault(key, UsageCounts()).add(row)
    return [
        UsageRow(**key._asdict(), **counts.model_dump(), cost=round(prices.cost(counts), 6))
        for key, counts in sorted(total.items())
    ]


def as_csv(rows: Iterable[UsageRow]) -> str:
    """Return rows as CSV with a head."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["day", "tenant", "key", "adapter", *UsageCounts.model_fields, "cost"])
    writer.writeheader()
    writer.writerows(row.model_dump(mode="json") for row in rows)
    return text.getvalue()
