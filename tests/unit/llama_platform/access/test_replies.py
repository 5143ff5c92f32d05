import asyncio

import pytest

from llama_platform.access import replies as module
from llama_platform.access.replies import RepliesInMemory, RepliesInRedis, Reply
from llama_platform.errors import UnavailableError

ANSWER = Reply("d", 200, (("content-type", "application/json"),), b'{"a": "\xff"}')


@pytest.fixture(params=["memory", "redis"])
def replies(request, run):
    if request.param == "memory":
        yield RepliesInMemory()
        return
    made = RepliesInRedis(request.getfixturevalue("redis_server").uri)
    yield made
    run(made.close())


def test_a_name_is_taken_once_and_its_answer_kept(replies, run):
    async def go():
        assert await replies.begin("n", "d", 10) is None
        assert await replies.begin("n", "e", 10) == Reply("d")
        await replies.finish("n", ANSWER)
        assert await replies.begin("n", "d", 10) == ANSWER
        assert await replies.begin("other", "d", 10) is None
        await replies.forget("other")
        await replies.forget("other")
        assert await replies.begin("other", "e", 10) is None

    run(go())


def test_a_name_of_a_process_that_died_is_free_after_its_lease(replies, run):
    async def go():
        assert await replies.begin("n", "d", 1) is None
        await asyncio.sleep(1.2)
        assert await replies.begin("n", "e", 1) is None

    run(go())


def test_memory_is_bounded_and_the_oldest_goes_first(run, monkeypatch):
    monkeypatch.setattr(module, "MEMORY_BYTES", 100)
    kept = RepliesInMemory()

    async def go():
        for name in "abc":
            await kept.begin(name, "d", 10)
            await kept.finish(name, Reply("d", 200, (), b"x" * 40))
        assert await kept.begin("a", "d", 10) is None
        assert (await kept.begin("c", "d", 10)).status == 200

    run(go())


def test_without_redis_nothing_is_taken_in_silence(redis_server, run):
    made = RepliesInRedis(redis_server.uri)
    redis_server.stop()

    async def go():
        for work in (made.begin("n", "d", 1), made.finish("n", ANSWER), made.forget("n")):
            with pytest.raises(UnavailableError, match="without Idempotency-Key"):
                await work
        await made.close()

    run(go())
