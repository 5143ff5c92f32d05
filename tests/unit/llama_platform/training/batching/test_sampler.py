import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_platform.errors import ConfigError
from llama_platform.training.batching.sampler import (
    accumulation_for,
    dropout_seed,
    step_chats,
    total_steps,
)


@given(st.integers(2, 60), st.integers(1, 16), st.integers(0, 5))
def test_every_chat_comes_once_per_epoch(size, batch, seed):
    steps = -(-size // batch)
    seen = [chat for step in range(steps) for chat in step_chats(step, size, batch, seed)]
    assert len(seen) == steps * batch
    assert sorted(seen[:size]) == list(range(size))


def test_order_depends_on_seed_and_step_only():
    first = [step_chats(step, 40, 8, seed=1) for step in range(5)]
    assert first == [step_chats(step, 40, 8, seed=1) for step in range(5)]
    assert first != [step_chats(step, 40, 8, seed=2) for step in range(5)]


def test_accumulation_divides_the_global_batch():
    assert accumulation_for(32, 4, 2) == 4
    assert accumulation_for(32, 4, 1) == 8
    with pytest.raises(ConfigError, match="cannot be divided over 3 workers"):
        accumulation_for(32, 4, 3)


def test_total_steps():
    assert total_steps(100, 16, 3, None) == 19
    assert total_steps(100, 16, 3, 5) == 5
    assert total_steps(2, 16, 1, None) == 1
    assert total_steps(40, 32, 1, None) == 2  # nobody is left out


def test_dropout_seeds_differ():
    seeds = {dropout_seed(0, step, micro) for step in range(10) for micro in range(10)}
    assert len(seeds) == 100
