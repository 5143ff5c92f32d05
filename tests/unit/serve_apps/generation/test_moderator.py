import pytest

from llama_platform.errors import ReplicaLostError
from llama_platform.inference.protocol import FinishEvent, Timings, TokenEvent, Usage

END = FinishEvent("stop", Usage(3, 1), Timings(0, 0, 0))


@pytest.fixture
def judge(make_http, monkeypatch):
    """An application whose model calls unsafe what holds the word poison, and answers with a fixed text."""

    def judge(answer, **moderator):
        http = make_http(safety={"moderator": {"adapter": "base", **moderator}})
        tokenizer, http.judged = http.api.state.state.generation.template.tokenizer, []

        async def generate(requests, adapter):
            prompt = tokenizer.decode(requests[0].prompt_ids)
            verdict = "safe or unsafe" in prompt
            if verdict:
                http.judged.append(prompt)
            if isinstance(answer, Exception):
                raise answer
            text = (" Unsafe: it is" if "poison" in prompt else " safe") if verdict else answer
            yield [(number, TokenEvent(text, (5,))) for number in range(len(requests))]
            yield [(number, END) for number in range(len(requests))]

        monkeypatch.setattr(http.generator, "generate", generate)
        return http

    return judge


def test_what_is_asked_is_judged_before_it_is_answered(judge):
    http = judge("yes")
    assert http.post("/predict", {"prompt": "a cake"}).json()["text"] == "yes"
    refused = http.post("/predict", {"prompt": "a poison"})
    assert (refused.status_code, refused.json()["code"]) == (422, "content_blocked")
    assert len(http.judged) == 2
    assert ("input", "block") in http.observed.screenings


@pytest.mark.parametrize("stream", [False, True])
def test_answers_are_judged_whole(judge, stream):
    bad, good = judge("take poison", places=["output"]), judge("take cake", places=["output"])
    body = {"prompt": "what?", "stream": stream}
    refused, answered = bad.post("/predict", body), good.post("/predict", body)
    assert "poison" not in refused.text
    assert "content_filter" in refused.text
    assert "take cake" in answered.text
    assert (len(bad.judged), len(good.judged)) == (1, 1)


def test_what_nobody_can_judge_does_not_pass(judge):
    http = judge(ReplicaLostError("gone"))
    assert http.post("/predict", {"prompt": "a cake"}).status_code == 502
