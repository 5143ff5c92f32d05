import pytest

from llama_platform.errors import InputError, OverloadedError
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.protocol import GenerationRequest, SamplingParams
from llama_platform.inference.queue_bounds import check_queue


def request(tenant="", tokens=10):
    return GenerationRequest(
        request_id="r", prompt_ids=(1,) * 5, sampling=SamplingParams(max_new_tokens=tokens - 5), tenant=tenant
    )


def test_so_many_wait_and_what_is_begun_at_once_does_not_count():
    config = EngineConfig(max_waiting=4)
    check_queue(config, request(), [request()] * 3, 0)
    check_queue(config, request(), [request()] * 5, 2)
    with pytest.raises(OverloadedError, match="6 requests are waiting"):
        check_queue(config, request(), [request()] * 6, 2)


def test_a_tenant_has_half_of_the_places_and_the_others_the_rest():
    config = EngineConfig(max_waiting=4)
    queued = [request("a")] * 2
    with pytest.raises(OverloadedError, match="2 requests of this tenant"):
        check_queue(config, request("a"), queued, 0)
    check_queue(config, request("b"), queued, 0)
    check_queue(config, request("a"), queued, 1)


def test_waiting_tokens_are_bounded():
    config = EngineConfig(max_waiting=64, max_waiting_tokens=100)
    check_queue(config, request(tokens=40), [request(tokens=60)], 0)
    with pytest.raises(OverloadedError, match="requests of 60 tokens"):
        check_queue(config, request(tokens=41), [request(tokens=60)], 0)
    check_queue(config, request(tokens=41), [request(tokens=60)], 2)  # begun at once
    with pytest.raises(InputError, match="at most 100 may wait"):
        check_queue(config, request(tokens=101), [], 4)
