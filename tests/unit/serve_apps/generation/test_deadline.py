import asyncio

import pytest

from llama_platform.errors import DeadlineError
from serve_apps.generation.deadline import Deadline


def test_work_that_is_done_in_time_is_returned_and_other_work_is_cancelled():
    cancelled = []

    async def work(seconds):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            cancelled.append(seconds)
            raise
        return seconds

    async def story():
        deadline = Deadline.after(0.2)
        assert await deadline.within(work(0)) == 0
        with pytest.raises(DeadlineError, match=r"no answer within 0\.2 s"):
            await deadline.within(work(5))
        assert deadline.left() == 0
        with pytest.raises(DeadlineError):
            await deadline.within(work(6))

    asyncio.run(story())
    assert cancelled == [5, 6] or cancelled == [5]  # what begins too late may not even start
