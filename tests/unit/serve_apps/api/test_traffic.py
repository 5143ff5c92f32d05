import pytest

from serve_apps.api.traffic import MINUTES, Traffic


@pytest.fixture
def clock():
    return [1_000_020.0]


def test_what_ended_is_counted_by_the_minute(clock):
    traffic = Traffic(lambda: clock[0])
    traffic.count("a", 200, 0.1, 40.0, 10, 5, 3)
    traffic.count("a", 503, 0.2, None, 0, 0, 0)
    clock[0] += 60
    traffic.count("a", 404, 0.01, None, 0, 0, 0)
    first, second = traffic.to_json()
    assert (first["requests"], first["failed"], first["refused"]) == (2, 1, 0)
    assert (first["prompt_tokens"], first["cached_tokens"], first["completion_tokens"]) == (10, 5, 3)
    assert 40 <= first["first_token_ms"]["p50"] <= 40 * 2
    assert first["milliseconds"]["p50"] <= first["milliseconds"]["p99"] <= 200 * 1.5
    assert (second["begun"] - first["begun"], second["refused"], second["first_token_ms"]) == (60, 1, None)


def test_an_hour_is_kept(clock):
    traffic = Traffic(lambda: clock[0])
    for _ in range(MINUTES + 10):
        traffic.count("a", 200, 0.1, None, 0, 0, 0)
        clock[0] += 60
    assert len(traffic.to_json()) == MINUTES
    clock[0] += 3600
    assert traffic.to_json() == []


def test_a_tenant_sees_its_own_and_the_administrator_all(clock):
    traffic = Traffic(lambda: clock[0])
    traffic.count("a", 200, 0.1, 10.0, 1, 0, 2)
    traffic.count("b", 500, 0.4, None, 1, 0, 0)
    assert [minute["requests"] for minute in traffic.to_json("a")] == [1]
    (both,) = traffic.to_json()
    assert (both["requests"], both["failed"], both["completion_tokens"]) == (2, 1, 2)
    assert traffic.to_json("nobody") == []
