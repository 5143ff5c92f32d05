import asyncio
import time

import pytest

from llama_platform.access import meter as meter_module
from llama_platform.access.meter import Meter, Reservation
from llama_platform.access.quotas import Holder, Quotas
from llama_platform.errors import InputError, LimitError, UnavailableError


@pytest.fixture(params=["memory", "redis"])
def storage(request):
    return "memory://" if request.param == "memory" else request.getfixturevalue("redis_server").uri


def holders(tenant=None, **quotas):
    return (Holder("key", "k1", Quotas(**quotas)), Holder("tenant", "acme", tenant or Quotas()))


async def admitted(meter, who):
    reservation = Reservation(who)
    await meter.admit(reservation)
    return reservation


async def refused(meter, who, tokens=None):
    try:
        await meter.reserve(await admitted(meter, who), tokens)
    except LimitError as error:
        return error
    pytest.fail("nobody refused it")


@pytest.fixture
def make_meter(run):
    made = []

    def make(*arguments, **settings):
        made.append(Meter(*arguments, **settings))
        return made[-1]

    yield make
    for meter in made:
        run(meter.close())


def test_requests_of_a_minute(run, make_meter, storage):
    async def go():
        meter, who = make_meter(storage), holders(requests_per_minute=3)
        lefts = [(await admitted(meter, who)).standings["key", "requests_per_minute"].left for _ in range(3)]
        assert lefts == [2, 1, 0]
        error = await refused(meter, who)
        assert (error.quota, error.limit, error.of) == ("requests_per_minute", 3, "key")
        assert 55 <= error.resets_in_s <= 60
        await admitted(meter, (Holder("key", "k2", Quotas(requests_per_minute=3)),))  # another key has its own

    run(go())


def test_keys_of_a_tenant_use_its_quota_together_and_a_refusal_counts_nothing(run, make_meter, storage):
    async def go():
        meter, tenant = make_meter(storage), Quotas(requests_per_minute=2)
        first = (Holder("key", "k1", Quotas(requests_per_minute=5)), Holder("tenant", "acme", tenant))
        second = (Holder("key", "k2", Quotas(requests_per_minute=5)), Holder("tenant", "acme", tenant))
        await admitted(meter, first)
        await admitted(meter, second)
        for _ in range(9):
            assert (await refused(meter, first)).of == "tenant"
        # The nine refusals have not used up the key's own.
        alone = await admitted(meter, first[:1])
        assert alone.standings["key", "requests_per_minute"].left == 3

    run(go())


def test_tokens_are_reserved_and_settled(run, make_meter, storage):
    async def go():
        meter, who = make_meter(storage), holders(tokens_per_minute=100, tokens_per_day=1000)
        one = await admitted(meter, who)
        await meter.reserve(one, 80)
        assert (await refused(meter, who, 30)).quota == "tokens_per_minute"
        await meter.settle(one, 20)
        other = await admitted(meter, who)
        await meter.reserve(other, 75)  # 20 + 75
        assert other.standings["key", "tokens_per_minute"].left == 5
        assert other.standings["key", "tokens_per_day"].left == 905
        await meter.settle(other, 80)  # more than was thought counts, too
        last = await admitted(meter, who)
        assert (await refused(meter, who, 1)).quota == "tokens_per_minute"
        await meter.settle(last, 0)

    run(go())


def test_a_request_larger_than_a_quota_is_an_error_of_its_own(run, make_meter, storage):
    async def go():
        meter, who = make_meter(storage), holders(tokens_per_minute=100)
        reservation = await admitted(meter, who)
        with pytest.raises(InputError, match="ask for a shorter answer"):
            await meter.reserve(reservation, 101)

    run(go())


def test_what_was_reserved_in_an_earlier_window_is_not_given_back_in_this_one(run, make_meter, storage, monkeypatch):
    monkeypatch.setattr(meter_module, "RateLimitItemPerMinute", meter_module.RateLimitItemPerMinute.__mro__[1])

    class PerSecond(meter_module.RateLimitItem):
        GRANULARITY = type(meter_module.RateLimitItemPerDay.GRANULARITY)(1, "second")

    monkeypatch.setattr(meter_module, "RateLimitItemPerMinute", PerSecond)

    async def go():
        meter, who = make_meter(storage), holders(tokens_per_minute=100)
        early = await admitted(meter, who)
        await meter.reserve(early, 90)
        await asyncio.sleep(1.2)
        late = await admitted(meter, who)
        await meter.reserve(late, 90)
        await meter.settle(early, 0)
        assert (await refused(meter, who, 20)).quota == "tokens_per_minute"

    run(go())


def test_concurrent_requests(run, make_meter, storage):
    async def go():
        meter, who = make_meter(storage), holders(concurrent_requests=2, tenant=Quotas(requests_per_minute=100))
        first, second = await admitted(meter, who), await admitted(meter, who)
        error = await refused(meter, who)
        assert (error.quota, error.resets_in_s) == ("concurrent_requests", 1)
        await meter.settle(first, 0)
        third = await admitted(meter, who)
        for one in (second, third):
            await meter.settle(one, 0)
        for one in (second, third):  # twice is once
            await meter.settle(one, 0)
        await admitted(meter, who)
        await admitted(meter, who)
        assert (await refused(meter, who)).quota == "concurrent_requests"

    run(go())


def test_a_request_that_is_refused_for_its_minute_keeps_no_place(run, make_meter, storage):
    async def go():
        meter, who = make_meter(storage), holders(concurrent_requests=2, requests_per_minute=1)
        await admitted(meter, who)
        for _ in range(3):
            assert (await refused(meter, who)).quota == "requests_per_minute"

    run(go())


def test_places_of_a_process_that_died_are_free_after_their_lease(run, make_meter, redis_server):
    async def go():
        who = holders(concurrent_requests=1)
        await admitted(make_meter(redis_server.uri, lease_s=0.3), who)
        meter = make_meter(redis_server.uri)
        await refused(meter, who)
        await asyncio.sleep(0.5)
        await admitted(meter, who)

    run(go())


def test_two_processes_count_together(run, make_meter, redis_server):
    async def go():
        meters, who = (make_meter(redis_server.uri), make_meter(redis_server.uri)), holders(requests_per_minute=10)
        outcomes = await asyncio.gather(*(admitted(meters[n % 2], who) for n in range(60)), return_exceptions=True)
        assert sum(isinstance(one, Reservation) for one in outcomes) == 10
        assert {type(one) for one in outcomes} == {Reservation, LimitError}

    run(go())


def test_without_redis_requests_go_through_or_are_refused_as_configured(run, make_meter, redis_server, monkeypatch):
    monkeypatch.setattr(meter_module, "BREAKER_PAUSE_S", 0.2)

    async def go():
        who = holders(requests_per_minute=2, tokens_per_minute=10, concurrent_requests=1)
        open_, strict = make_meter(redis_server.uri, "allow"), make_meter(redis_server.uri, "refuse")
        one = await admitted(open_, who)
        redis_server.stop()
        for _ in range(6):
            lost = await admitted(open_, who)
            await open_.reserve(lost, 5)
            await open_.settle(lost, 5)
            with pytest.raises(UnavailableError):
                await admitted(strict, who)
        assert (open_.breaker.state, strict.breaker.state) == ("opened", "opened")
        begun = time.perf_counter()
        await admitted(open_, who)
        assert time.perf_counter() - begun < 0.05  # nobody waits for what is away
        redis_server.start()
        await asyncio.sleep(0.3)
        await open_.settle(one, 0)
        assert [type(await admitted(open_, holders(requests_per_minute=2))) for _ in range(2)] == [Reservation] * 2
        assert (await refused(open_, holders(requests_per_minute=2))).quota == "requests_per_minute"

    run(go())
