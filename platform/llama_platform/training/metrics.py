"""Metrics of a run: a record per step, how they reach the driver, and the line that people read."""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """What one optimizer step measured, over all workers."""

    step: int
    """Steps done, from 1."""
    steps: int
    """Steps of the whole run."""
    loss: float
    """Mean negative log-likelihood of the step's trained tokens, in nats."""
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    tokens_per_s: float
    """Tokens read per second over all workers, padding not counted, since the last start."""
    eta_s: float
    """Expected seconds to the end."""
    eval_loss: float | None = None
    """On the held-out chats, where it was measured after this step."""

    def line(self) -> str:
        """Return the progress line."""
        eta = timedelta(seconds=round(self.eta_s))
        held_out = "" if self.eval_loss is None else f"  held-out loss {self.eval_loss:.3f}"
        return (
            f"step {self.step}/{self.steps}  loss {self.loss:.3f}  lr {self.learning_rate:.1e}  "
            f"{self.tokens_per_s:,.0f} tokens/s  ETA {eta}{held_out}"
        )


class StepTimer:
    """Speed and remaining time since the start of this process."""

    def __init__(self, first_step: int, steps: int) -> None:
        """Start the clock.

        Args:
            first_step: steps that were done before.
            steps: of the whole run.
        """
        self._first, self._steps = first_step, steps
        self._start, self._tokens = time.monotonic(), 0

    def measure(self, step: int, tokens: int) -> tuple[float, float]:
        """Add a finished step and return (tokens per second, expected seconds to the end)."""
        self._tokens += tokens
        elapsed = max(time.monotonic() - self._start, 1e-9)
        done = step - self._first
        return self._tokens / elapsed, elapsed / done * (self._steps - step)


class MetricsBoard:
    """A Ray actor that the first worker writes to and the driver reads from."""

    def __init__(self) -> None:
        """Start empty."""
        self._records: list[dict[str, Any]] = []

    def post(self, record: dict[str, Any]) -> None:
        """Add a record."""
        self._records.append(record)

    def read_from(self, start: int) -> list[dict[str, Any]]:
        """Return the records from number `start` on."""
        return self._records[start:]
