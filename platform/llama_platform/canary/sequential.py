"""Sequential test of one rate beside another: whether a candidate has more of some event, valid at every look.

Requests go to the candidate by chance with a known share. Where both have the same rate of an event, each event is the
candidate's with just that probability, whatever the rate is. The test bets against this: its wealth is a likelihood
ratio, averaged over rates that are so many times as high. By Ville's inequality wealth of 1 / alpha is seen
with a probability of alpha at most, however often one looks and whenever one stops (Ramdas et al., 2023,
«Game-theoretic statistics and safe anytime-valid inference»).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""How many times as high the candidate's rate may be; each gets the same part of the first stake."""


@dataclass(frozen=True, slots=True)
class Events:
    """How often something happened while the candidate had the same share of the requests."""

    share: float
    """Probability that a request went to the candidate, above 0 and below 1."""
    candidate: int
    """Events of the candidate's requests."""
    present: int
    """Events of the requests that went to what it is compared with."""


def log_evidence(periods: Iterable[Events]) -> float:
    """Return the logarithm of the wealth against «the candidate's rate is not higher», over all periods together.

    Args:
        periods: events of each share in turn; shares must not be chosen by what was seen in the same period.
    """
    periods = list(periods)
    return _log_mean([sum(_log_ratio(events, ratio) for events in periods) for ratio in RATIOS])


def is_higher(periods: Iterable[Events], alpha: float) -> bool:
    """Return whether the candidate's rate is higher, wrongly so with a probability of `alpha` over all looks."""
    return log_evidence(periods) >= -math.log(alpha)


def _log_ratio(events: Events, ratio: float) -> float:
    """Return the logarithm of a likelihood ratio: the rate is `ratio` times as high, over equal rates."""
    share = events.share
    expected = share * ratio / (share * ratio + 1 - share)
    gained = events.candidate * math.log(expected / share)
    return gained + events.present * math.log((1 - expected) / (1 - share))


def _log_mean(logarithms: list[float]) -> float:
    most = max(logarithms)
    return most + math.log(sum(math.exp(value - most) for value in logarithms) / len(logarithms))
