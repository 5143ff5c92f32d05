"""Schedule: the learning rate of every step."""

import math
from typing import Literal

Schedule = Literal["cosine", "linear", "constant"]


def learning_rate_at(step: int, steps: int, peak: float, warmup_fraction: float, schedule: Schedule) -> float:
    """Return the learning rate of a step (from 0): a linear rise, then the schedule's way down.

    Args:
        step: number of the step, from 0.
        steps: steps of the whole run.
        peak: highest learning rate, reached at the end of the rise.
        warmup_fraction: share of the steps in which the rate rises.
        schedule: `cosine` and `linear` fall to 0 at the end, `constant` stays at the peak.
    """
    warmup = max(1, round(steps * warmup_fraction))
    if step < warmup:
        return peak * (step + 1) / warmup
    left = 1 - (step - warmup) / max(1, steps - warmup)
    return peak * {"cosine": 0.5 * (1 - math.cos(math.pi * left)), "linear": left, "constant": 1.0}[schedule]
