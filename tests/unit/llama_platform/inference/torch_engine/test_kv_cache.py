from llama_platform.inference.torch_engine.batch import PAGE
from llama_platform.inference.torch_engine.scheduler import Sequence
from scheduler_steps import make, step


def test_a_shared_beginning_is_computed_once_but_never_the_last_token():
    pool, scheduler = make()
    prompt = tuple(range(2 * PAGE))
    for adapter, cached in ((None, 0), (None, PAGE), ("a", 0), ("a", PAGE)):
        sequence = Sequence(prompt, 1, adapter)
        scheduler.add(sequence)
        while sequence in scheduler.waiting or sequence in scheduler.running:
            step(scheduler)
        assert sequence.cached == cached
    longer = Sequence((*prompt, 7), 1)
    scheduler.add(longer)
    step(scheduler)
    assert longer.cached == 2 * PAGE
    assert pool.available == pool.pages


def test_twins_that_run_together_lead_to_one_chain_of_pages():
    pool, scheduler = make(pages=40, max_running=2)
    for sequence in (twins := [Sequence((1,) * (3 * PAGE), 1) for _ in range(2)]):
        scheduler.add(sequence)
    while scheduler.running or scheduler.waiting:
        step(scheduler, prompt_tokens=50)
    pages, _ = pool.match(None, (1,) * (3 * PAGE))
    assert len(pages) == 3
    assert twins[1].content == twins[0].content


def test_pages_unused_for_longest_give_way_first():
    _, scheduler = make(pages=4, max_running=1)

    def run(first):
        sequence = Sequence((first,) * (PAGE + 1), 1)
        scheduler.add(sequence)
        step(scheduler)
        return sequence.cached

    assert [run(1), run(2), run(1), run(3), run(4), run(1), run(2)] == [0, 0, PAGE, 0, 0, PAGE, 0]
