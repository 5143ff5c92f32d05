import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_platform.models.tools import ToolCall, write_call
from serve_apps.api.openai.tool_calls import ToolCallReader, calls_of

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(['"}', "</tool_call>", "\\", "<tool_call>"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(
    st.builds(ToolCall, st.sampled_from(["f", "get.weather"]), st.dictionaries(st.text(), JSON, max_size=3)), max_size=3
)
SPOKEN = st.text(alphabet="ab <tol_c>\n").map(str.strip)


def read(pieces):
    reader, text, calls = ToolCallReader(), "", []
    for piece in pieces:
        more, found = reader.feed(piece)
        text += more
        assert len({one.number for one in found}) == len(found)  # a client reads each call once in a chunk
        for one in found:
            if one.name is not None:
                assert one.number == len(calls)
                calls.append([one.name, ""])
            calls[one.number][1] += one.arguments
    return text + reader.finish(), calls, reader.open


@given(SPOKEN, CALLS, st.data())
def test_however_an_answer_is_cut_the_same_is_read(spoken, calls, data):
    answer = "\n".join([*([spoken] if spoken else []), *map(write_call, calls)])
    if "<tool_call>" in spoken:
        return
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=8)))
    pieces = [answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    text, found, still_open = read(pieces)
    assert text == spoken
    assert [(name, json.loads(arguments)) for name, arguments in found] == [(c.name, c.arguments) for c in calls]
    assert not still_open
    whole_text, listed, whole = calls_of(answer, "id")
    assert (whole_text, whole) == (spoken, True)
    assert [(c["function"]["name"], c["function"]["arguments"]) for c in listed] == [tuple(one) for one in found]
    assert [c["id"] for c in listed] == [f"id-{number}" for number in range(len(calls))]


@pytest.mark.parametrize(
    ("answer", "text", "calls", "whole"),
    [
        ("a <tool", "a <tool", 0, True),
        ("a\n<tool_call>", "a", 0, False),
        ('<tool_call>{"name":"f","argum', "", 0, False),
        ('<tool_call>{"name":"f","arguments":{"a', "", 1, False),
        ('<tool_call>{"name":"f","arguments":{}}</tool', "", 1, False),
        ('<tool_call>{"name":"f","arguments":{}}</tool_call>\n', "", 1, True),
    ],
)
def test_answers_that_are_cut(answer, text, calls, whole):
    found_text, found, found_whole = calls_of(answer, "id")
    assert (found_text, len(found), found_whole) == (text, calls, whole)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_json_may_hold_the_sign_of_a_call(size):
    answer = '{"a":"see <tool_call> tag","b":1}'
    reader, text = ToolCallReader(is_json=True), ""
    for start in range(0, len(answer), size):
        text += reader.feed(answer[start : start + size])[0]
    assert text + reader.finish() == answer
    assert calls_of(answer, "id", is_json=True) == (answer, [], True)
    text, calls, whole = calls_of(' <tool_call>{"name":"f","arguments":{}}</tool_call>', "id", is_json=True)
    assert (text.strip(), len(calls), whole) == ("", 1, True)
