import itertools

import pytest

from llama_platform.training.schedule import learning_rate_at


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_learning_rate_rises_then_follows_its_schedule(schedule):
    rates = [learning_rate_at(step, 100, 1.0, 0.1, schedule) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
    assert rates[55] == pytest.approx(1.0 if schedule == "constant" else 0.5)
    assert (rates[-1] < 0.02) is (schedule != "constant")
