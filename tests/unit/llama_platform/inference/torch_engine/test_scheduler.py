import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_platform.errors import InputError
from llama_platform.inference.torch_engine.batch import PAGE
from llama_platform.inference.torch_engine.scheduler import MOST_OVERTAKES, RESERVE, Sequence
from scheduler_steps import make, step


@given(
    requests=st.lists(
        st.tuples(
            st.integers(1, 100),
            st.integers(1, 60),
            st.integers(0, 2),
            st.sampled_from([None, "a"]),
            st.sampled_from(["", "a", "b"]),
            st.sampled_from([0.5, 1.0, 3.0]),
            st.booleans(),
        ),
        max_size=25,
    ),
    budget=st.integers(1, 80),
    cancelled=st.sets(st.integers(0, 24)),
    prefix_cache=st.booleans(),
)
def test_whatever_comes_everything_ends_and_every_page_comes_back(requests, budget, cancelled, prefix_cache):
    pool, scheduler = make(pages=12, max_running=3, prefix_cache=prefix_cache)
    sequences = [
        Sequence(tuple(range(n)), new, adapter, priority, tenant=tenant, weight=weight, scored=scored)
        for n, new, priority, adapter, tenant, weight, scored in requests
    ]
    for sequence in sequences:
        scheduler.add(sequence)
    thrown_out, stop = [], scheduler._stop
    scheduler._stop = lambda sequence: (thrown_out.append(sequence), stop(sequence))
    for number in range(3000):
        thrown_out.clear()
        generating = [s for s in scheduler.running if len(s.tokens) - s.computed == 1]
        chunks = step(scheduler, budget)
        if not chunks:
            break
        assert len(scheduler.running) <= 3
        held = [page for s in scheduler.running for page in s.pages]
        assert all(len(s.tokens) <= len(s.pages) * PAGE + (s.generated > 0) for s in scheduler.running)
        assert all(len(s.pages) <= s.total_pages for s in scheduler.running)
        if not prefix_cache:
            assert len(held) == len(set(held))
        stayed = [s for s in generating if s not in thrown_out or s.generated >= s.max_new_tokens]
        assert [chunk.sequence for chunk in chunks[: len(stayed)]] == stayed  # every stream gets its token
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


def test_answers_that_end_early_do_not_wait_for_room_that_nobody_needs():
    pool, scheduler = make(pages=60, max_running=8)
    for number in range(8):
        scheduler.add(Sequence((number,) * 20, 1000))  # to their ends they would need 8 x 32 pages
    step(scheduler)
    assert len(scheduler.running) == 8
    assert pool.available == 60 - 8 * -(-(20 + RESERVE) // PAGE)


def test_without_a_page_the_last_comer_of_the_lowest_priority_gives_way_and_goes_on_where_it_was():
    pool, scheduler = make(pages=20, max_running=4)
    sequences = [Sequence((n,) * 20, 400, priority=n == 3) for n in range(4)]
    for sequence in sequences:
        scheduler.add(sequence)
    step(scheduler)
    first, second, _, urgent = sequences
    running = {s for s in sequences if s in scheduler.running}
    assert running == {urgent, first, second}  # a page for the growth of each must be free
    while not scheduler.preempted:
        step(scheduler)
    assert second not in scheduler.running
    tokens = list(second.tokens)
    assert len(tokens) > 20
    while second not in scheduler.running:
        step(scheduler)
    assert second.tokens[: len(tokens)] == tokens
    while step(scheduler):
        assert not {urgent, first} & {s for s in scheduler.waiting if s.begun}  # the first never give way
    assert [s.generated for s in sequences] == [400] * 4
    assert pool.available == 20


def test_a_scored_prompt_never_gives_way():
    _, scheduler = make(pages=15, max_running=2)
    answer, scored = Sequence((1,), 300), Sequence((2,) * 60, 200, scored=True)
    scheduler.add(answer)
    scheduler.add(scored)
    step(scheduler)
    assert len(scored.pages) == scored.total_pages
    while scored in scheduler.running:
        step(scheduler)
    assert (scored.generated, scheduler.preempted) == (200, 1)  # the answer that had no page gave way itself
    while step(scheduler):
        pass
    assert answer.generated == 300


def flood(tenants, steps=4000, every=40):
    """Return in how many steps the requests of tenant `b` got their first tokens, beside ten times what can be done.

    Args:
        tenants: names of the flooding and the modest tenant, and whether there is a flood.
    """
    flooding, modest, floods = tenants
    _, scheduler = make(pages=200, max_running=4)
    waited, asked = [], {}
    for number in range(steps):
        if floods:
            while len(scheduler.waiting) < 40:
                scheduler.add(Sequence((number % 7,) * 40, 60, tenant=flooding))
        if number % every == 0:
            sequence = Sequence((9, number) * 10, 10, tenant=modest)
            asked[sequence] = number
            scheduler.add(sequence)
        step(scheduler, 64)
        for sequence in [s for s in asked if s.generated]:
            waited.append(number - asked.pop(sequence) + 1)
    return sorted(waited)


def test_one_tenants_flood_is_not_anothers_wait():
    alone, fair = flood(("a", "b", False)), flood(("a", "b", True))
    unfair = flood(("", "", True))
    p95 = [values[int(0.95 * len(values))] for values in (alone, fair, unfair)]
    assert len(fair) >= len(alone) - 1
    assert p95[1] <= 2 * p95[0] + 1
    assert p95[2] > 50 * p95[0]


def test_slots_are_shared_by_weight():
    _, scheduler = make(pages=400, max_running=8)
    for _ in range(20):
        for tenant, weight in (("a", 3.0), ("b", 1.0)):
            scheduler.add(Sequence((1,) * 8, 200, tenant=tenant, weight=weight))
    seen = {"a": 0, "b": 0}
    for _ in range(300):
        for chunk in step(scheduler):
            seen[chunk.sequence.tenant] += chunk.tokens
    assert 2 < seen["a"] / seen["b"] < 4


def test_what_was_thrown_out_goes_on_where_it_was_and_finds_its_pages():
    _, scheduler = make(pages=40, max_running=2)
    old, young, other = (Sequence((n,) * 40, 100, tenant=tenant) for n, tenant in ((1, "a"), (2, "a"), (3, "b")))
    for sequence in (old, young):
        scheduler.add(sequence)
    for _ in range(30):
        step(scheduler)
    tokens = list(young.tokens)
    scheduler.add(other)
    step(scheduler)
    assert scheduler.running == [old, other]
    assert scheduler.waiting == [young]
    assert (young.tokens, young.pages) == (tokens, [])
    scheduler.remove(other)
    (chunk,) = [chunk for chunk in step(scheduler) if chunk.sequence is young]
    assert chunk.tokens == len(tokens) % PAGE or chunk.tokens < PAGE  # the rest was found
    assert young.tokens[: len(tokens)] == tokens
    assert young.cached == 0  # for its client, nothing was saved


def test_nobody_is_thrown_out_for_its_own_tenant_or_a_lower_priority():
    _, scheduler = make(pages=40, max_running=1)
    first = Sequence((1,), 50, tenant="a", priority=1)
    scheduler.add(first)
    step(scheduler)
    for tenant, priority in (("a", 1), ("b", 0)):
        scheduler.add(Sequence((2,), 50, tenant=tenant, priority=priority))
        step(scheduler)
        assert scheduler.running == [first]
