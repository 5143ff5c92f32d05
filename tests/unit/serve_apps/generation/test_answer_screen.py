import pytest

from llama_platform.inference.protocol import FinishEvent, GenerationRequest, SamplingParams, Timings, TokenEvent, Usage
from llama_platform.safety.rules import PatternFinder, ScreenRule
from serve_apps.generation.answer_screen import AnswerScreen

REQUEST = GenerationRequest(request_id="r", prompt_ids=(1, 2, 3), sampling=SamplingParams())
END = FinishEvent("stop", Usage(3, 4), Timings(0, 0, 0))


@pytest.fixture
def make_screen():
    def make(action, strip=str.strip):
        return AnswerScreen(REQUEST, [ScreenRule("x", action, PatternFinder("bad", 3))], strip)

    return make


def texts(screen, *pieces, end=END):
    events = [event for piece in (*pieces, end) for event in screen.events(piece)]
    return "".join(event.text for event in events if isinstance(event, TokenEvent)), events


def test_text_is_trimmed_and_screened_and_its_tokens_stay(make_screen):
    text, events = texts(make_screen("redact"), TokenEvent(" a b", (1,)), TokenEvent("ad c ", (2, 3)))
    assert text == "a [x] c"
    assert sum(len(event.token_ids) for event in events if isinstance(event, TokenEvent)) == 3
    assert events[-1] is END


def test_an_answer_ends_where_it_is_blocked(make_screen):
    screen = make_screen("block")
    assert texts(screen, TokenEvent("fine b", (1, 2)), end=TokenEvent("ad", (3,)))[0] == "fine"
    text, events = texts(screen, TokenEvent(" x", (4,)))
    assert (text, events[-1].reason) == (" ", "content_filter")
    early, events = texts(make_screen("block"), end=TokenEvent("so bad it is not shown", (1, 2)))
    assert early == "so "
    assert (events[-1].reason, events[-1].usage) == ("content_filter", Usage(3, 2))


def test_what_is_blocked_with_the_last_character_is_blocked_too(make_screen):
    text, events = texts(make_screen("block"), TokenEvent("is bad", (1,)))
    assert (text, events[-1].reason) == ("is ", "content_filter")
