import asyncio
import time

import pytest

from llama_platform.breaker import Breaker, OpenBreakerError


def fail(breaker, error=ValueError):
    with pytest.raises(error), breaker.guarding():
        raise error


def test_it_opens_after_failures_in_a_row_and_refuses_at_once():
    breaker = Breaker("retriever", 3, 60)
    fail(breaker)
    fail(breaker)
    with breaker.guarding():
        pass
    for _ in range(3):
        assert breaker.state == "closed"
        fail(breaker)
    assert breaker.state == "opened"
    with pytest.raises(OpenBreakerError, match="the retriever keeps failing"), breaker.guarding():
        pytest.fail("let through")


@pytest.mark.parametrize("works", [True, False])
def test_after_a_pause_one_probe_decides(works):
    async def go():
        breaker, asked = Breaker("retriever", 1, 0.02), []
        fail(breaker)
        await asyncio.sleep(0.05)

        async def ask():
            with breaker.guarding():
                asked.append(breaker.state)
                await asyncio.sleep(0.01)
                if not works:
                    raise ValueError

        outcomes = await asyncio.gather(*(ask() for _ in range(5)), return_exceptions=True)
        assert asked == ["half-opened"]
        assert [type(one) for one in outcomes[1:]] == [OpenBreakerError] * 4
        assert breaker.state == ("closed" if works else "opened")

    asyncio.run(go())


def test_a_cancelled_probe_decides_nothing():
    breaker = Breaker("retriever", 1, 0.0)
    fail(breaker)
    time.sleep(0.01)
    fail(breaker, KeyboardInterrupt)
    assert breaker.state == "half-opened"
    with breaker.guarding():
        pass
    assert breaker.state == "closed"


def test_only_the_errors_that_count_open_it():
    breaker = Breaker("retriever", 1, 60, lambda error: isinstance(error, OSError))
    for _ in range(5):
        fail(breaker, ValueError)
    assert breaker.state == "closed"
    fail(breaker, ConnectionError)
    assert breaker.state == "opened"
