"""The router of requests, with replicas that Serve would hand it."""

import asyncio
from types import SimpleNamespace

import pytest

from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.inference.protocol import GenerationRequest, SamplingParams
from serve_apps.llama.request_router import WarmRouter
from serve_apps.llama.warmth import Warmth

ADAPTER = ArtifactVersion("adapter", "support", 1, "d" * 64, "2026-01-01")


def replica(name, **stats):
    return SimpleNamespace(replica_id=SimpleNamespace(unique_id=name), routing_stats=stats)


def asking(tokens, adapter=None, method="generate"):
    request = GenerationRequest(
        request_id="r", prompt_ids=tuple(tokens), sampling=SamplingParams(max_new_tokens=1), deadline=0.0
    )
    return SimpleNamespace(args=[[request], adapter], metadata=SimpleNamespace(call_method=method))


@pytest.fixture
def router():
    """A router without Serve around it, whose queues are as the test says."""
    made = WarmRouter.__new__(WarmRouter)
    made._warmth, made.queues = Warmth(8, 100, 10, seed=1), {}
    made._replica_queue_len_cache = SimpleNamespace(get=lambda replica_id: made.queues.get(replica_id.unique_id))
    return made


def chosen(router, replicas, pending):
    ranks = asyncio.run(router.choose_replicas(replicas, pending))
    assert all(len(rank) == 1 for rank in ranks)
    assert len(ranks) == len(replicas)
    return ranks[0][0].replica_id.unique_id


def test_a_prompt_goes_where_its_beginning_went(router):
    replicas = [replica(name) for name in "abcd"]
    first = asking(range(320))
    router.on_request_routed(first, replicas[2].replica_id, None)
    assert chosen(router, replicas, asking(range(340))) == "c"
    router.queues["c"] = 9
    assert chosen(router, replicas, asking(range(340))) != "c"


def test_an_adapter_goes_where_it_is_reported(router, monkeypatch):
    monkeypatch.setattr("ray.serve.request_router.RequestRouter.update_replicas", lambda self, replicas: None)
    replicas = [replica("a", adapters=[]), replica("b", adapters=[ADAPTER.digest]), replica("c")]
    router.update_replicas(replicas)
    assert chosen(router, replicas, asking(range(8), ADAPTER)) == "b"
    router.update_replicas([replicas[0], replicas[2]])
    assert chosen(router, [replicas[0], replicas[2]], asking(range(8), ADAPTER)) in "ac"


@pytest.mark.parametrize("pending", [None, asking(range(8), method="other")])
def test_other_calls_go_where_there_is_least_to_do(router, pending):
    router.queues = {"a": 2, "b": 0, "c": 5}
    assert chosen(router, [replica(name) for name in "abc"], pending) == "b"
