import pytest

from llama_platform.inference.protocol import FinishEvent, Timings, TokenEvent, Usage
from llama_platform.models.prompt import STRIPS
from route_requests import events, predict
from serve_apps.generation.completion import TextTrimmer


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Hello ", "Hello"),
        ("\nHello\n\n", "Hello"),
        ("  return x\n", "  return x"),
        (" \n\t\n  x = 1\n  y", "  x = 1\n  y"),
    ],
)
def test_a_stream_is_equal_to_the_whole_answer_white_space_too(http, monkeypatch, text, shown):
    async def generate(requests, adapter):
        for piece in (text[:2], text[2:]):
            yield [(0, TokenEvent(piece, (300,)))]
        yield [(0, FinishEvent("stop", Usage(1, 2), Timings(0.0, 0.0, 0.0)))]

    monkeypatch.setattr(http.generator, "generate", generate)
    assert predict(http).json()["text"] == shown
    *tokens, _ = events(predict(http, stream=True).text)
    assert "".join(value["text"] for _, value in tokens) == shown


def test_style_llama2_strips_as_meta_does():
    trimmer = TextTrimmer(STRIPS["llama2"])
    assert [trimmer.feed(piece) for piece in ("\n ", "  return", " x\n", "y ")] == ["", "return", " x", "\ny"]
