import asyncio
import time

import pytest

from llama_platform.inference.protocol import FinishEvent, Timings, TokenEvent, Usage
from serve_apps.llama.stream_batching import batch_streams

FINISH = FinishEvent("stop", Usage(1, 1), Timings(0, 0, 0))


async def answer(pauses, closed=None, error=None):
    try:
        for number, pause in enumerate(pauses):
            await asyncio.sleep(pause)
            yield TokenEvent(f"{number} ", (number,))
        if error:
            raise error
        yield FINISH
    finally:
        if closed is not None:
            closed.append(True)


async def collect(answers, hold_s):
    start, batches = time.monotonic(), []
    async for batch in batch_streams(answers, hold_s):
        batches.append((time.monotonic() - start, batch))
    return batches


def text(batches, number=0):
    return "".join(e.text for _, b in batches for n, e in b if n == number and isinstance(e, TokenEvent))


def test_the_first_token_comes_at_once_and_later_ones_together():
    batches = asyncio.run(collect([answer([0] + [0.005] * 40)], 0.05))
    assert [len(event.token_ids) for _, event in batches[0][1]] == [1]
    assert len(batches) < 15
    assert text(batches) == "".join(f"{n} " for n in range(41))
    assert batches[-1][1][-1] == (0, FINISH)


def test_no_token_is_held_for_longer_than_the_bound():
    # The second token comes right after the first and the third much later: it must not wait for that.
    batches = asyncio.run(collect([answer([0, 0.001, 1.0])], 0.05))
    seconds = [at for at, batch in batches if any(isinstance(e, TokenEvent) and 1 in e.token_ids for _, e in batch)]
    assert seconds[0] < 0.5


def test_answers_share_batches_and_keep_their_order():
    batches = asyncio.run(collect([answer([0.002] * 20), answer([0.003] * 20)], 0.02))
    for number in (0, 1):
        assert text(batches, number) == "".join(f"{n} " for n in range(20))
    assert any({n for n, _ in batch} == {0, 1} for _, batch in batches)
    assert sum(event == FINISH for _, batch in batches for _, event in batch) == 2


def test_an_answer_that_fails_ends_all_after_what_came_before():
    closed = []
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(collect([answer([0], closed, ValueError("broken")), answer([0, 5], closed)], 0.02))
    assert len(closed) == 2


def test_leaving_closes_the_answers():
    closed = []

    async def leave():
        stream = batch_streams([answer([0, 5], closed), answer([5], closed)], 0.02)
        await anext(stream)
        await stream.aclose()

    asyncio.run(leave())
    assert len(closed) == 2
