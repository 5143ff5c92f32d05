from llama_platform.inference.protocol import FinishEvent, GenerationRequest, SamplingParams, Timings, TokenEvent, Usage
from serve_apps.llama.load_tracker import WINDOW_S, LoadTracker


def request(prompt, new):
    return GenerationRequest(
        request_id="r", prompt_ids=(1,) * prompt, sampling=SamplingParams(max_new_tokens=new), adapter_digest=None
    )


def test_tokens_in_flight_fall_as_they_are_computed():
    now = [0.0]
    load = LoadTracker(lambda: now[0])
    assert load.stats(0) == {"tokens_in_flight": 0, "waiting": 0, "queue_wait_s": 0, "response_s": 0}
    with load.request(request(100, 50)) as state:
        assert load.stats(0)["tokens_in_flight"] == 150
        state.note(TokenEvent("a", (1, 2)), 1.0)
        assert load.stats(0)["tokens_in_flight"] == 48
        state.note(FinishEvent("stop", Usage(100, 2), Timings(0, 0, 0)), 2.0)
        assert load.stats(0)["tokens_in_flight"] == 0
    assert load.requests == 0


def test_what_waits_counts_with_the_time_so_far():
    now = [0.0]
    load = LoadTracker(lambda: now[0])
    with load.request(request(1, 1)):
        now[0] = 7.0
        assert load.stats(3) == {"tokens_in_flight": 2, "waiting": 3, "queue_wait_s": 7, "response_s": 0}
    assert load.stats(0)["response_s"] == 7
    load.note_wait(2.0)
    assert load.stats(0)["queue_wait_s"] == 2
    now[0] += WINDOW_S + 1
    assert load.stats(0) == {"tokens_in_flight": 0, "waiting": 0, "queue_wait_s": 0, "response_s": 0}


def test_what_autoscaling_gets_are_plain_numbers():
    assert all(
        type(value) is float for value in LoadTracker().stats(0).values()
    )  # anything else switches Serve's calls off
