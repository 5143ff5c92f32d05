"""Ray's errors become the platform's, also where cancelling raises them once more."""

import asyncio
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from llama_platform.errors import OverloadedError, ReplicaLostError, UnavailableError
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
