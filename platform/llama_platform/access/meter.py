"""Meter: counts what keys and tenants use against their quotas, in memory or in Redis.

Tokens are reserved before the model is asked, as many as prompt and answer may have at most, and settled to what they
were when the answer has ended. Windows of a minute begin with their first request; days and months are those of UTC.
The counting is the library limits'.
"""

import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol, TypeVar

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute, RateLimitItemPerMonth
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError as CounterError
from limits.storage import storage_from_string
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import RedisError

from llama_platform.access.quotas import MEMORY, Holder, QuotaName, Standing
from llama_platform.access.redis_pool import redis_pool
from llama_platform.breaker import Breaker, OpenBreakerError
from llama_platform.errors import InputError, LimitError, UnavailableError

log = logging.getLogger(__name__)
T = TypeVar("T")
BREAKER_FAILURES = 3
BREAKER_PAUSE_S = 5.0
TOKEN_QUOTAS: tuple[QuotaName, ...] = ("tokens_per_minute", "tokens_per_day", "tokens_per_month")


class Places(Protocol):
    """Counts the requests that are worked on at once."""

    async def take(self, name: str, limit: int, request: str, lease_s: float) -> bool:
        """Take a place, and return whether there was one.

        Args:
            name: whose places they are.
            limit: how many there are.
            request: who takes it, a name of its own.
            lease_s: seconds after which it is free in any case.
        """
        ...

    async def free(self, name: str, request: str) -> None:
        """Give a place back."""
        ...


class PlacesInMemory:
    """Places of one process."""

    def __init__(self) -> None:
        """Begin with all places free."""
        self._taken: Counter[str] = Counter()

    async def take(self, name: str, limit: int, request: str, lease_s: float) -> bool:
        """Take a place; see Places."""
        if self._taken[name] >= limit:
            return False
        self._taken[name] += 1
        return True

    async def free(self, name: str, request: str) -> None:
        """See Places."""
        self._taken[name] -= 1
        if not self._taken[name]:
            del self._taken[name]


class PlacesInRedis:
    """Places that several processes share: one sorted set for each name, requests by the time their lease ends."""

    _TAKE = """
        redis.call('zremrangebyscore', KEYS[1], '-inf', ARGV[1])
        if redis.call('zcard', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
        redis.call('zadd', KEYS[1], ARGV[3], ARGV[4])
        redis.call('pexpireat', KEYS[1], math.ceil(tonumber(ARGV[3]) * 1000))
        return 1
    """

    def __init__(self, pool: ConnectionPool) -> None:
        """Connect at the first use."""
        self._client = Redis(connection_pool=pool)

    async def take(self, name: str, limit: int, request: str, lease_s: float) -> bool:
        """Take a place; see Places."""
        now = time.time()
        taken = await self._client.eval(self._TAKE, 1, f"PLACES/{name}", now, limit, now + lease_s, request)
        return bool(taken)

    async def free(self, name: str, request: str) -> None:
        """See Places."""
        await self._client.zrem(f"PLACES/{name}", request)


@dataclass(slots=True)
class Reservation:
    """What one request has reserved."""

    holders: Sequence[Holder]
    request: str = field(default_factory=lambda: uuid.uuid4().hex)
    standings: dict[tuple[str, QuotaName], Standing] = field(default_factory=dict)
    """What is left of each quota, by kind of holder and name."""
    places: list[str] = field(default_factory=list)
    tokens: int = 0
    until: dict[str, float] = field(default_factory=dict)
    """Unix time at which the window of each counter ends, by the counter's key."""


class Meter:
    """Counts; of one event loop."""

    def __init__(
        self, storage: str = MEMORY, on_failure: Literal["allow", "refuse"] = "allow", lease_s: float = 120
    ) -> None:
        """Count in `storage`.

        Args:
            storage: `memory://`, or `redis://host:port/db` where several processes share their counts.
            on_failure: whether requests are let through uncounted or refused while Redis is away.
            lease_s: seconds after which a place is free, should the process that took it have died.
        """
        self._on_failure, self._lease_s = on_failure, lease_s
        self._pool: ConnectionPool | None = None
        if storage == MEMORY:
            counters = storage_from_string("async+memory://")
            self._places: Places = PlacesInMemory()
        else:
            self._pool = redis_pool(storage)
            counters = storage_from_string(
                f"async+{storage}",
                implementation="redispy",
                wrap_exceptions=True,
                connection_pool=self._pool,  # type: ignore[arg-type]  # passed on to redis
            )
            self._places = PlacesInRedis(self._pool)
        assert isinstance(counters, Storage)
        self._windows = FixedWindowRateLimiter(counters)
        self.breaker = Breaker("counter of limits", BREAKER_FAILURES, BREAKER_PAUSE_S, _is_away)

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._pool is not None:
            await self._pool.disconnect()

    async def admit(self, reservation: Reservation) -> None:
        """Count a request, and take its places.

        Raises:
            LimitError: a holder has used up its requests, or too many are worked on at once.
            UnavailableError: Redis is away, and requests are refused then.
        """
        await self._counting(lambda: self._admit(reservation))

    async def reserve(self, reservation: Reservation, tokens: int) -> None:
        """Reserve the tokens that prompt and answer may have, beside those that the request has reserved before.

        Raises:
            InputError: they are more than a quota allows at all.
            LimitError: a holder has used up its tokens.
            UnavailableError: Redis is away, and requests are refused then.
        """
        for holder in reservation.holders:
            for quota, limit in holder.quotas.named().items():
                if quota in TOKEN_QUOTAS and tokens > limit:
                    raise InputError(
                        f"prompt and answer may have {tokens} tokens together; the {holder.kind}'s limit is {limit} "
                        f"{quota.replace('_', ' ')}: ask for a shorter answer"
                    )
        await self._counting(lambda: self._reserve(reservation, tokens))

    async def settle(self, reservation: Reservation, used: int) -> None:
        """Count the tokens that were used instead of those that are reserved, and give the places back."""
        if not reservation.places and (used == reservation.tokens or not reservation.until):
            return
        try:
            await self._counting(lambda: self._settle(reservation, used))
        except UnavailableError:
            log.warning("tokens of a request were not settled: the counter of limits is away")

    async def _admit(self, reservation: Reservation) -> None:
        for holder in reservation.holders:
            quotas = holder.quotas.named()
            if (limit := quotas.get("concurrent_requests")) is not None:
                name = f"{holder.kind}/{holder.name}"
                taken = await self._places.take(name, limit, reservation.request, self._lease_s)
                if not taken:
                    await self._free(reservation)
                    raise LimitError("concurrent_requests", limit, holder.kind, 1)
                reservation.places.append(name)
        try:
            await self._count(reservation, ("requests_per_minute",), 1)
        except LimitError:
            await self._free(reservation)
            raise

    async def _reserve(self, reservation: Reservation, tokens: int) -> None:
        await self._count(reservation, TOKEN_QUOTAS, tokens)
        reservation.tokens += tokens

    async def _settle(self, reservation: Reservation, used: int) -> None:
        await self._free(reservation)
        difference, reservation.tokens = used - reservation.tokens, used
        if not difference:
            return
        for holder in reservation.holders:
            for quota, limit in holder.quotas.named().items():
                if quota not in TOKEN_QUOTAS:
                    continue
                item, ids, _ = _window(holder, quota, limit)
                # A window that has ended meanwhile took what was reserved with it.
                if time.time() < reservation.until.get("/".join(ids), 0):
                    await self._windows.hit(item, *ids, cost=difference)

    async def _free(self, reservation: Reservation) -> None:
        while reservation.places:
            await self._places.free(reservation.places.pop(), reservation.request)

    async def _count(self, reservation: Reservation, quotas: Sequence[QuotaName], cost: int) -> None:
        counted: list[tuple[RateLimitItem, tuple[str, ...]]] = []
        for holder in reservation.holders:
            for quota, limit in holder.quotas.named().items():
                if quota not in quotas:
                    continue
                item, ids, ends = _window(holder, quota, limit)
                fits = await self._windows.hit(item, *ids, cost=cost)
                counted.append((item, ids))
                stats = await self._windows.get_window_stats(item, *ids)
                until = ends or stats.reset_time
                resets_in_s = max(1, int(until - time.time() + 0.999))
                standing = Standing(quota, limit, stats.remaining, resets_in_s, item.GRANULARITY.seconds)
                reservation.standings[holder.kind, quota] = standing
                if not fits:  # a refusal counts nothing
                    for item, ids in counted:
                        await self._windows.hit(item, *ids, cost=-cost)
                    raise LimitError(quota, limit, holder.kind, resets_in_s)
                reservation.until["/".join(ids)] = until

    async def _counting(self, work: Callable[[], Awaitable[T]]) -> T | None:
        try:
            with self.breaker.guarding():
                try:
                    return await work()
                except (CounterError, RedisError, OSError) as error:
                    raise UnavailableError("limits cannot be counted right now; try again shortly") from error
        except UnavailableError as error:
            if self._on_failure == "refuse":
                raise
            if not isinstance(error, OpenBreakerError):
                log.error("limits are not counted: Redis is away", extra={"reason": str(error.__cause__)})
            return None


def _is_away(error: BaseException) -> bool:
    """Return whether an error says that nothing can be counted, rather than that a limit is reached."""
    return isinstance(error, UnavailableError)


def _window(holder: Holder, quota: QuotaName, limit: int) -> tuple[RateLimitItem, tuple[str, ...], float | None]:
    """Return the counter of a quota, its key, and when its window ends where that is known beforehand."""
    ids, now = (holder.kind, holder.name, quota), datetime.now(UTC)
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if quota == "tokens_per_day":  # kept for two days: the date in its key ends it
        return RateLimitItemPerDay(limit, 2), (*ids, f"{day:%Y-%m-%d}"), (day + timedelta(days=1)).timestamp()
    if quota == "tokens_per_month":
        first = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        return RateLimitItemPerMonth(limit, 2), (*ids, f"{day:%Y-%m}"), first.timestamp()
    return RateLimitItemPerMinute(limit), ids, None
