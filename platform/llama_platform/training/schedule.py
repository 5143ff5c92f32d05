"""Schedule: the learning rate of every step."""

import math
from typing import Literal

Schedule = Literal["cosine", "linear", "constant"]


def learning_rate_at(step: int, steps: int, peak: float, warmup_fraction: float, schedule: Schedule) -> float:
    """Return the learning rate of a step (from 0): a linear rise, then the schedule's way down."""
    warmup = max(1, round(steps * warmup_fraction))
    if step < warmup:
        return peak * (step + 1) / warmup
    left = 1 - (step - warmup) / max(1, steps - warmup)
    return peak * {"cosine": 0.5 * (1 - math.cos(math.pi * left)), "linear": left, "constant": 1.0}[schedule]
