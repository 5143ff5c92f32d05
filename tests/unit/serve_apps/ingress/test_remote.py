"""Ray's errors become the platform's, also where cancelling raises them once more."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from llama_platform.breaker import OpenBreakerError
from llama_platform.errors import (
    InputError,
    IntegrityError,
    OverloadedError,
    PlatformError,
    ReplicaLostError,
    UnavailableError,
)
from serve_apps.ingress.remote import RemoteGenerator, RemoteRetriever

ERRORS = [
    (BackPressureError(3, 2), OverloadedError),
    (DeploymentUnavailableError(DeploymentID("llama")), UnavailableError),
    (RayActorError(), ReplicaLostError),
]


class Call:
    """What a handle returns, of a request that never reached a replica."""

    def __init__(self, error):
        self._error = error

    def cancel(self):
        raise self._error

    async def __anext__(self):
        raise self._error

    def __aiter__(self):
        return self

    def __await__(self):
        raise self._error
        yield


@pytest.mark.parametrize(("raised", "expected"), ERRORS)
def test_a_stream_that_no_replica_takes_says_so_in_our_words(raised, expected):
    handle = SimpleNamespace(options=lambda stream: handle, generate=SimpleNamespace(remote=lambda *_: Call(raised)))

    async def story():
        async for _ in RemoteGenerator(handle).generate([], None):
            pass

    with pytest.raises(expected):
        asyncio.run(story())


@pytest.mark.parametrize(("raised", "expected"), ERRORS)
def test_a_search_that_no_replica_takes_says_so_in_our_words(raised, expected):
    handle = SimpleNamespace(search=SimpleNamespace(remote=lambda *_: Call(raised)))
    with pytest.raises(expected):
        asyncio.run(RemoteRetriever(handle).search(None, None, [], 0.0))


class Steps:
    """A stream of a handle: yields values, raises errors."""

    def __init__(self, *steps):
        self._steps = iter(steps)

    def cancel(self):
        pass

    def __aiter__(self):
        return self

    async def __anext__(self):
        for step in self._steps:
            if isinstance(step, BaseException):
                raise step
            return step
        raise StopAsyncIteration


def test_a_model_that_keeps_failing_is_not_asked_for_a_while(monkeypatch):
    calls = []

    def remote(*_):
        calls.append(1)
        return Steps(RayActorError()) if broken else Steps(["first"], ["second"])

    handle = SimpleNamespace(options=lambda stream: handle, generate=SimpleNamespace(remote=remote))
    generator = RemoteGenerator(handle)
    monkeypatch.setattr(generator.breaker._context, "ttl", 0.2)

    async def ask():
        try:
            return [batch async for batch in generator.generate([], None)]
        except (ReplicaLostError, UnavailableError) as error:
            return type(error)

    broken = True
    outcomes = [asyncio.run(ask()) for _ in range(9)]
    assert outcomes == [ReplicaLostError] * 5 + [OpenBreakerError] * 4
    assert len(calls) == 5
    broken = False
    time.sleep(0.3)
    assert asyncio.run(ask()) == [["first"], ["second"]]
    assert generator.breaker.state == "closed"


@pytest.mark.parametrize("error", [BackPressureError(3, 2), InputError("too long"), IntegrityError("damaged")])
def test_what_says_nothing_of_the_replicas_opens_nothing(error):
    handle = SimpleNamespace(search=SimpleNamespace(remote=lambda *_: Call(error)))
    retriever = RemoteRetriever(handle)
    for _ in range(9):
        with pytest.raises(PlatformError):
            asyncio.run(retriever.search(None, None, [], 0.0))
    assert retriever.breaker.state == "closed"


def test_an_answer_that_breaks_off_has_begun():
    handle = SimpleNamespace(
        options=lambda stream: handle,
        generate=SimpleNamespace(remote=lambda *_: Steps(["first"], RayActorError())),
    )
    generator = RemoteGenerator(handle)

    async def ask():
        async for _ in generator.generate([], None):
            pass

    for _ in range(9):
        with pytest.raises(ReplicaLostError):
            asyncio.run(ask())
    assert generator.breaker.state == "closed"
