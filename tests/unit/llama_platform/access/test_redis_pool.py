import asyncio

from redis.asyncio import Redis

from llama_platform.access.redis_pool import TIMEOUT_S, redis_pool


def test_nobody_waits_long_for_redis(redis_server):
    async def go():
        client = Redis.from_pool(redis_pool(redis_server.uri))
        assert await client.ping()
        settings = client.connection_pool.connection_kwargs
        assert (settings["socket_timeout"], settings["socket_connect_timeout"]) == (TIMEOUT_S, TIMEOUT_S)
        await client.aclose()

    asyncio.run(go())
