import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_platform.inference.torch_engine.batch import PAGE
from llama_platform.inference.torch_engine.scheduler import Sequence
from scheduler_steps import make, step


@given(
    requests=st.lists(
        st.tuples(st.integers(1, 100), st.integers(1, 60), st.integers(0, 2), st.sampled_from([None, "a"])), max_size=25
    ),
    budget=st.integers(1, 80),
    cancelled=st.sets(st.integers(0, 24)),
    prefix_cache=st.booleans(),
)
def test_whatever_comes_everything_ends_and_every_page_comes_back(requests, budget, cancelled, prefix_cache):
    pool, scheduler = make(pages=12, max_running=3, prefix_cache=prefix_cache)
    sequences = [Sequence(tuple(range(n)), new, adapter, priority) for n, new, priority, adapter in requests]
    for sequence in sequences:
        scheduler.add(sequence)
    for number in range(3000):
        generating = [s for s in scheduler.running if len(s.tokens) - s.computed == 1]
        chunks = step(scheduler, budget)
        if not chunks:
            break
        assert len(scheduler.running) <= 3
        held = [page for s in scheduler.running for page in s.pages]
        assert all(len(s.pages) == s.total_pages for s in scheduler.running)
        if not prefix_cache:
            assert len(held) == len(set(held))
        assert [chunk.sequence for chunk in chunks[: len(generating)]] == generating  # every stream gets its token
        assert sum(chunk.tokens for chunk in chunks if chunk.tokens > 1) <= budget
        if number in cancelled and scheduler.running:
            scheduler.remove(scheduler.running[0])
    assert not scheduler.running
    assert not scheduler.waiting
    assert pool.available == 12


def test_admission_is_by_priority_then_arrival_and_nobody_overtakes():
    _, scheduler = make(pages=4, max_running=4)
    big, small, urgent = (Sequence((0,) * n, 1, priority=p) for n, p in ((4 * PAGE, 0), (1, 0), (PAGE, 1)))
    for sequence in (big, small, urgent):
        scheduler.add(sequence)
    scheduler.schedule(1000)
    assert scheduler.running == [urgent]  # the big one does not fit beside it, and the small one waits behind the big
    assert scheduler.waiting == [big, small]
    scheduler.remove(urgent)
    scheduler.schedule(1000)
    assert scheduler.running == [big]


def test_short_prompts_do_not_wait_for_long_ones():
    _, scheduler = make()
    long, short = Sequence((0,) * 300, 5), Sequence((1,) * 20, 5)
    scheduler.add(long)
    scheduler.add(short)
    chunks = {chunk.sequence: chunk for chunk in scheduler.schedule(64)}
    assert (chunks[short].tokens, chunks[short].samples) == (20, True)
    assert (chunks[long].tokens, chunks[long].samples) == (44, False)


def test_a_request_that_can_never_fit_is_refused():
    _, scheduler = make(pages=3)
    with pytest.raises(ValueError, match="need 4 pages; the KV cache has 3"):
        scheduler.add(Sequence((0,) * 90, 20))
