import asyncio

from serve_apps.api.drain import Drain


async def wait(drain, seconds, ends_after=None):
    counted = drain.counted()
    counted.__enter__()
    if ends_after is not None:
        asyncio.get_running_loop().call_later(ends_after, counted.__exit__, None, None, None)
    return await drain.wait(seconds)


def test_it_waits_for_what_has_begun():
    drain = Drain()
    assert asyncio.run(wait(drain, 5, ends_after=0.05)) == 0
    assert drain.begun


def test_it_waits_no_longer_than_it_may_and_tells_what_is_left():
    assert asyncio.run(wait(Drain(), 0.05)) == 1


def test_nothing_begun_is_no_wait():
    assert asyncio.run(Drain().wait(60)) == 0
