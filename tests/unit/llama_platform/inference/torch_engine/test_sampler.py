import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llama_platform.errors import NotFiniteError
from llama_platform.inference.protocol import SamplingParams
from llama_platform.inference.torch_engine.sampler import Sampler

END = 0


def sampler(prompt=(), **fields):
    return Sampler(SamplingParams(**fields), prompt, {END})


def allowed(logits, temperature, top_k, top_p, min_p):
    """The distribution by its definition: sort everything, cut, normalise."""
    p = torch.softmax(torch.tensor(logits, dtype=torch.float64) / temperature, 0).numpy()
    order = np.argsort(-p, kind="stable")
    keep = np.ones(len(p), bool)
    if top_k:
        keep &= p >= p[order[min(top_k, len(p)) - 1]]
    keep &= p >= min_p * p.max()
    p = np.where(keep, p, 0) / p[keep].sum()
    if top_p < 1:
        reached = np.cumsum(p[order])
        p[order[1 + np.searchsorted(reached, top_p) :]] = 0
    return p / p.sum()


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "min_p"),
    [(1.0, 0, 1.0, 0.0), (0.7, 5, 1.0, 0.0), (1.3, 0, 0.8, 0.0), (1.0, 0, 1.0, 0.2), (0.9, 6, 0.7, 0.05)],
)
def test_draws_follow_the_distribution(temperature, top_k, top_p, min_p):
    logits = torch.randn(12, generator=torch.Generator().manual_seed(1)) * 1.5
    expected = allowed(logits.tolist(), temperature, top_k, top_p, min_p)
    one = sampler(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=5)
    draws = 20_000
    counts = np.bincount([one.choose(logits)[0] for _ in range(draws)], minlength=12)
    assert not counts[expected == 0].any()
    seen = expected > 0
    chi_square = (((counts - draws * expected)[seen]) ** 2 / (draws * expected[seen])).sum()
    assert chi_square < 35  # 11 degrees of freedom: 1 in 4,000


@given(
    logits=st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=60, unique=True),
    top_p=st.floats(0.01, 1),
    seed=st.integers(0, 2**40),
)
def test_the_cut_without_sorting_never_leaves_the_nucleus(logits, top_p, seed):
    token, _ = sampler(temperature=1.0, top_p=top_p, seed=seed).choose(torch.tensor(logits))
    p = torch.softmax(torch.tensor(logits, dtype=torch.float64), 0).numpy()
    assert p[p > p[token] * (1 + 1e-5)].sum() <= top_p + 1e-6  # what is more likely does not fill the nucleus


def test_a_seed_decides_and_none_does_not():
    logits = torch.zeros(1000)

    def draw(seed):
        one = sampler(temperature=1.0, seed=seed)
        return [one.choose(logits)[0] for _ in range(5)]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
    assert draw(None) != draw(None)


def test_repetition_penalty_counts_the_prompt_and_works_on_both_signs():
    logits = torch.tensor([-9.0, 2.0, 1.9, -1.0, -1.1])
    assert sampler(temperature=0.0).choose(logits)[0] == 1
    assert sampler(prompt=(1,), temperature=0.0, repetition_penalty=2.0).choose(logits)[0] == 2
    one = sampler(prompt=(1, 2, 3), temperature=0.0, repetition_penalty=1.5)
    negative = torch.tensor([-9.0, -9.0, -9.0, -1.0, -1.1])
    assert one.choose(negative)[0] == 4
    assert logits.tolist()[1] == 2.0  # the caller's logits stay


def test_presence_and_frequency_penalties_count_the_answer_only():
    logits = torch.tensor([-9.0, 2.0, 1.0])
    one = sampler(prompt=(1,), temperature=0.0, presence_penalty=0.6)
    assert [one.choose(logits)[0] for _ in range(3)] == [1, 1, 1]
    one = sampler(temperature=0.0, frequency_penalty=0.6)
    assert [one.choose(logits)[0] for _ in range(4)] == [1, 1, 2, 1]


def test_no_end_before_the_least_number_of_tokens():
    logits = torch.tensor([5.0, 1.0])
    one = sampler(temperature=0.0, min_new_tokens=2)
    assert [one.choose(logits)[0] for _ in range(3)] == [1, 1, END]


def test_logprobs_are_of_the_model_not_of_the_penalties():
    logits = torch.tensor([0.0, 2.0, 1.0])
    token, found = sampler(prompt=(1,), temperature=0.0, repetition_penalty=9.0, logprobs=2).choose(logits)
    assert token == 2
    expected = logits.log_softmax(0)
    assert found.logprob == pytest.approx(expected[2].item())
    assert [place for place, _ in found.top] == [1, 2]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_an_error(temperature):
    with pytest.raises(NotFiniteError):
        sampler(temperature=temperature).choose(torch.full((4,), torch.nan))
