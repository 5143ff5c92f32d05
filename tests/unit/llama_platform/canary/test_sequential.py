import math
import random

import pytest

from llama_platform.canary.sequential import RATIOS, Events, is_higher, log_evidence


def first_alarm(seed, rates, share, alpha=0.05, requests=4000, every=1):
    """Return after how many requests the candidate is found worse, or None."""
    chance, counts = random.Random(seed), [0, 0]
    for number in range(1, requests + 1):
        candidate = chance.random() < share
        if chance.random() < rates[candidate]:
            counts[candidate] += 1
            if number % every == 0 and is_higher([Events(share, counts[1], counts[0])], alpha):
                return number
    return None


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_equal_rates_seldom_raise_an_alarm_however_often_one_looks(share):
    alarms = [first_alarm(seed, (0.1, 0.1), share) for seed in range(200)]
    assert sum(alarm is not None for alarm in alarms) <= 0.05 * 200


def test_twice_the_rate_is_found():
    alarms = [first_alarm(seed, (0.1, 0.2), 0.5) for seed in range(200)]
    assert sum(alarm is not None for alarm in alarms) >= 0.95 * 200


def test_a_lower_rate_raises_none():
    assert all(first_alarm(seed, (0.2, 0.1), 0.5) is None for seed in range(50))


def test_a_broken_candidate_is_found_at_once():
    alarms = [first_alarm(seed, (0.01, 1.0), 0.05) for seed in range(50)]
    assert max(alarms) < 300


def test_the_wealth_is_the_mean_of_likelihood_ratios():
    events = Events(0.25, 3, 5)
    ratios = []
    for ratio in RATIOS:
        expected = 0.25 * ratio / (0.25 * ratio + 0.75)
        ratios.append((expected / 0.25) ** 3 * ((1 - expected) / 0.75) ** 5)
    assert log_evidence([events]) == pytest.approx(math.log(sum(ratios) / len(ratios)))


def test_what_was_seen_at_each_share_counts_together():
    periods = [Events(0.05, 6, 20), Events(0.5, 20, 8)]
    parts = [log_evidence([events]) for events in periods]
    assert log_evidence(periods) > max(parts)
    assert log_evidence([]) == pytest.approx(0)
    assert math.isfinite(log_evidence([Events(0.01, 10**6, 10)]))
