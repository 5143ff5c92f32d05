"""Traffic: what one ingress replica answered in the last hour, minute by minute."""

import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llama_platform.canary.counts import Histogram, upper_bound

MINUTES = 60
COUNTED = ("requests", "failed", "refused", "prompt_tokens", "cached_tokens", "completion_tokens")
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(slots=True)
class Minute:
    """Counts of the requests that ended in one minute."""

    begun: int
    """Unix time in seconds."""
    requests: int = 0
    failed: int = 0
    """Responses of 500 and more."""
    refused: int = 0
    """Responses of 400 to 499."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    milliseconds: Histogram = field(default_factory=Histogram)
    first_token_ms: Histogram = field(default_factory=Histogram)

    def merge(self, other: "Minute") -> None:
        """Add what was counted of another tenant in the same minute."""
        for name in COUNTED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.milliseconds.merge(other.milliseconds)
        self.first_token_ms.merge(other.first_token_ms)

    def to_json(self) -> dict[str, Any]:
        """Return the counts, and upper bounds of quantiles in ms; buckets grow by the square root of two."""
        return {
            "begun": self.begun,
            **{name: getattr(self, name) for name in COUNTED},
            "milliseconds": _quantiles(self.milliseconds),
            "first_token_ms": _quantiles(self.first_token_ms),
        }


class Traffic:
    """The last hour of each tenant; only requests of routes that scopes open count, so that looking is not seen."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """Begin with nothing.

        Args:
            now: returns Unix time in seconds.
        """
        self._now, self._minutes = now, defaultdict[str, deque[Minute]](lambda: deque(maxlen=MINUTES))

    def count(
        self,
        tenant: str,
        status: int,
        seconds: float,
        first_token_ms: float | None,
        prompt: int,
        cached: int,
        completion: int,
    ) -> None:
        """Count a request that has ended.

        Args:
            tenant: whose it was; the empty text where nobody is asked for a key.
            status: HTTP status; 0 where the client left before.
            seconds: how long it took.
            first_token_ms: when its first token came; None where none did.
            prompt: tokens of prompts.
            cached: those of them that were found in the cache.
            completion: tokens of answers.
        """
        minute = self._present(tenant)
        minute.requests += 1
        minute.failed += status >= 500
        minute.refused += 400 <= status < 500
        minute.prompt_tokens += prompt
        minute.cached_tokens += cached
        minute.completion_tokens += completion
        minute.milliseconds.add(1000 * seconds)
        if first_token_ms is not None:
            minute.first_token_ms.add(first_token_ms)

    def to_json(self, tenant: str | None = None) -> list[dict[str, Any]]:
        """Return the minutes in which something ended, oldest first.

        Args:
            tenant: whose; None for all together.
        """
        since, merged = self._now() - 60 * MINUTES, dict[int, Minute]()
        chosen = self._minutes.values() if tenant is None else [self._minutes.get(tenant, deque())]
        for minutes in chosen:
            for minute in minutes:
                if minute.begun >= since:
                    merged.setdefault(minute.begun, Minute(minute.begun)).merge(minute)
        return [minute.to_json() for _, minute in sorted(merged.items())]

    def _present(self, tenant: str) -> Minute:
        begun, minutes = int(self._now() // 60 * 60), self._minutes[tenant]
        if not minutes or minutes[-1].begun != begun:
            minutes.append(Minute(begun))
        return minutes[-1]


def _quantiles(histogram: Histogram) -> dict[str, float] | None:
    if not histogram.total:
        return None
    return {name: round(upper_bound(histogram.quantile(share)), 1) for name, share in QUANTILES.items()}
