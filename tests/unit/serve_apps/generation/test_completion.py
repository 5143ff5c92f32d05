import pytest

from llama_platform.inference.protocol import FinishEvent, Timings, TokenEvent, Usage
from route_requests import events, predict


@pytest.mark.parametrize("text", [" Hello ", "\n Hello\n\n", "Hello"])
def test_a_stream_is_equal_to_the_whole_answer_white_space_too(http, monkeypatch, text):
    async def generate(requests, adapter):
        for piece in (text[:2], text[2:]):
            yield [(0, TokenEvent(piece, (300,)))]
        yield [(0, FinishEvent("stop", Usage(1, 2), Timings(0.0, 0.0, 0.0)))]

    monkeypatch.setattr(http.generator, "generate", generate)
    assert predict(http).json()["text"] == "Hello"
    *tokens, _ = events(predict(http, stream=True).text)
    assert "".join(value["text"] for _, value in tokens) == "Hello"
