import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_platform.errors import InputError
from llama_platform.inference.torch_engine.batch import PAGE
from llama_platform.inference.torch_engine.scheduler import MOST_OVERTAKES, Sequence
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


def test_admission_is_by_priority_then_arrival():
    _, scheduler = make(pages=4, max_running=1)
    first, second, urgent = Sequence((0,), 1), Sequence((1,), 1), Sequence((2,), 1, priority=1)
    for sequence in (first, second, urgent):
        scheduler.add(sequence)
    for expected in (urgent, first, second):
        scheduler.schedule(1000)
        assert scheduler.running == [expected]
        scheduler.remove(expected)


def test_a_short_request_does_not_wait_behind_a_long_one_that_there_is_no_room_for():
    _, scheduler = make(pages=4, max_running=4)
    running, big, small = Sequence((0,) * PAGE, 1), Sequence((1,) * 4 * PAGE, 1), Sequence((2,), 1)
    scheduler.add(running)
    scheduler.schedule(1000)
    for sequence in (big, small):
        scheduler.add(sequence)
    scheduler.schedule(1000)
    assert scheduler.running == [running, small]
    assert scheduler.waiting == [big]


def test_a_long_request_is_overtaken_a_bounded_number_of_times():
    _, scheduler = make(pages=4, max_running=4)
    big = Sequence((1,) * 4 * PAGE, 1)
    shorts = [Sequence((2, n), 1) for n in range(2 * MOST_OVERTAKES)]
    scheduler.add(shorts[0])
    scheduler.schedule(1000)
    scheduler.add(big)
    for sequence in shorts[1:]:
        scheduler.add(sequence)
    scheduler.schedule(1000)
    begun = []
    while big not in scheduler.running:
        begun += [sequence for sequence in scheduler.running if sequence not in begun]
        scheduler.remove(scheduler.running[0])  # somebody always ends, and somebody short always waits
        scheduler.schedule(1000)
    assert len(begun) == 1 + MOST_OVERTAKES


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
    with pytest.raises(InputError, match="need 4 pages; the KV cache has 3"):
        scheduler.add(Sequence((0,) * 90, 20))
