import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_platform.errors import ConfigError
from llama_platform.training.order import accumulation_for, dropout_seed, micro_batches, total_steps


@given(st.integers(2, 60), st.integers(1, 4), st.integers(1, 4), st.integers(0, 5))
def test_every_chat_comes_once_per_epoch(size, micro, parts, seed):
    batch = micro * parts
    lengths = [10 + n % 7 for n in range(size)]
    steps = -(-size // batch)
    seen = [i for step in range(steps) for group in micro_batches(step, lengths, batch, micro, seed) for i in group]
    assert len(seen) == steps * batch
    assert set(seen) == set(range(size))
    assert max(seen.count(i) for i in range(size)) - min(seen.count(i) for i in range(size)) <= -(-batch // size) + 1


def test_order_depends_on_seed_and_step_only():
    lengths = list(range(40))
    first = [micro_batches(step, lengths, 8, 4, seed=1) for step in range(5)]
    assert first == [micro_batches(step, lengths, 8, 4, seed=1) for step in range(5)]
    assert first != [micro_batches(step, lengths, 8, 4, seed=2) for step in range(5)]


def test_a_micro_batch_holds_chats_of_like_length():
    groups = micro_batches(0, [1, 100, 2, 99], 4, 2, seed=0)
    assert sorted(map(sorted, groups)) == [[0, 2], [1, 3]]


def test_accumulation_divides_the_global_batch():
    assert accumulation_for(32, 4, 2) == 4
    assert accumulation_for(32, 4, 1) == 8
    with pytest.raises(ConfigError, match="cannot be divided over 3 workers"):
        accumulation_for(32, 4, 3)


def test_total_steps():
    assert total_steps(100, 16, 3, None) == 19
    assert total_steps(100, 16, 3, 5) == 5
    assert total_steps(2, 16, 1, None) == 1


def test_dropout_seeds_differ():
    seeds = {dropout_seed(0, step, micro) for step in range(10) for micro in range(10)}
    assert len(seeds) == 100
