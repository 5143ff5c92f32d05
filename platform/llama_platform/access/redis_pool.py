"""Connections to the Redis that several processes share."""

from redis.asyncio import ConnectionPool

TIMEOUT_S = 0.5
"""How long a request waits for Redis at most, for a connection and for each answer."""


def redis_pool(uri: str) -> ConnectionPool:
    """Return the connections to `redis://host:port/db`; they are made at the first use."""
    return ConnectionPool.from_url(uri, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
