"""Metrics of a run: a record per step, the line that people read, and the gauges that monitoring scrapes."""

import threading
import time
from dataclasses import dataclass
from datetime import timedelta

from llama_platform.metrics import METRICS

PREFIX = "llama_training_"
SHOW_S = 5.0
"""How often the last step is shown again, in seconds."""


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """What one optimizer step measured, over all workers."""

    step: int
    """Steps done, from 1."""
    steps: int
    """Steps of the whole run."""
    loss: float
    """Mean negative log-likelihood of the step's trained tokens in nats, or mean loss of its pairs."""
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    tokens_per_s: float
    """Tokens read per second over all workers, padding not counted, since the last start."""
    eta_s: float
    """Expected seconds to the end."""
    eval_loss: float | None = None
    """On the held-out chats, where it was measured after this step."""
    tokens: int = 0
    """Read in this step over all workers, padding not counted."""
    step_s: float = 0.0
    """Seconds from the step's first batch to its end, evaluation and checkpoints not counted."""
    win_rate: float | None = None
    """Share of the held-out pairs whose chosen answer is preferred, where it was measured."""

    def line(self) -> str:
        """Return the progress line."""
        eta = timedelta(seconds=round(self.eta_s))
        held_out = "" if self.eval_loss is None else f"  held-out loss {self.eval_loss:.3f}"
        if self.win_rate is not None:
            held_out += f"  win rate {self.win_rate:.2f}"
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
            steps: number of steps of the whole run.
        """
        self._first, self._steps = first_step, steps
        self._start, self._tokens = time.monotonic(), 0

    def measure(self, step: int, tokens: int) -> tuple[float, float]:
        """Add a finished step and return (tokens per second, expected seconds to the end)."""
        self._tokens += tokens
        elapsed = max(time.monotonic() - self._start, 1e-9)
        done = step - self._first
        return self._tokens / elapsed, elapsed / done * (self._steps - step)


class Gauges:
    """The latest step on Ray's Prometheus endpoint: `ray_llama_training_loss` and its like, tagged with the run."""

    def __init__(self, run_id: str) -> None:
        """Register the gauges in this Ray worker."""
        from ray.util.metrics import Gauge

        found = {name.removeprefix(PREFIX): metric for name, metric in METRICS.items() if name.startswith(PREFIX)}
        self._gauges = {
            key: Gauge(metric.name, description=metric.text, tag_keys=metric.labels) for key, metric in found.items()
        }
        self._tags, self._last = {"run": run_id}, dict[str, float]()
        threading.Thread(target=self._show_again, name="gauges", daemon=True).start()

    def set(self, metrics: StepMetrics) -> None:
        """Show a step."""
        for key, gauge in self._gauges.items():
            if (value := getattr(metrics, key)) is not None:
                self._last[key] = value
                gauge.set(value, tags=self._tags)

    def _show_again(self) -> None:
        """Set the last values again, as long as this process lives: Ray forgets a gauge that is not set for a while."""
        while True:
            time.sleep(SHOW_S)
            for key, value in list(self._last.items()):
                self._gauges[key].set(value, tags=self._tags)
