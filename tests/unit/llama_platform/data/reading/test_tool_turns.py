import json

import pytest

from llama_platform.data.reading.formats import parse_chat, unread_content
from llama_platform.data.reading.tool_turns import name_results, read_call_turn, read_calls, read_tools
from llama_platform.errors import InputError
from llama_platform.models.tool_chat import ToolTurn
from llama_platform.models.tools import Tool, ToolCall

DECLARED = {"type": "function", "function": {"name": "f", "description": "does f", "parameters": {"type": "object"}}}
OPENAI = {
    "tools": [DECLARED],
    "messages": [
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
                {"id": "2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "2", "content": "zwei"},
        {"role": "tool", "tool_call_id": "1", "content": '{"b": 2}'},
        {"role": "assistant", "content": "done"},
    ],
}
SHAREGPT = {
    "tools": json.dumps([DECLARED["function"]]),
    "conversations": [
        {"from": "human", "value": "go"},
        {"from": "function_call", "value": '{"name": "f", "arguments": {"a": 1}}'},
        {"from": "observation", "value": '{"b": 2}'},
        {"from": "gpt", "value": "done"},
    ],
}


def test_openai_chats_with_tools():
    system, user, call, result, answer = parse_chat(OPENAI, "messages")
    assert '{"name":"f","description":"does f","parameters":{"type":"object"}}' in system.content
    assert call.content.split("\n") == [
        '<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>',
        '<tool_call>{"name":"g","arguments":{}}</tool_call>',
    ]
    assert result.content.split("\n") == [
        '<tool_response>{"name":"g","content":"zwei"}</tool_response>',
        '<tool_response>{"name":"f","content":{"b":2}}</tool_response>',
    ]
    assert [m.role for m in (system, user, call, result, answer)] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    assert (call.counts(), result.counts(), answer.counts()) == (True, False, True)
    assert list(unread_content(OPENAI, "messages")) == []


def test_sharegpt_chats_with_tools():
    system, _, call, result, answer = parse_chat(SHAREGPT, "sharegpt")
    assert '"name":"f"' in system.content
    assert call.content == '<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>'
    assert result.content == '<tool_response>{"name":"f","content":{"b":2}}</tool_response>'
    assert answer.content == "done"
    assert list(unread_content(SHAREGPT, "sharegpt")) == []


def test_older_functions():
    record = {
        "functions": [{"name": "f"}],
        "messages": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "7"},
            {"role": "assistant", "content": "7"},
        ],
    }
    system, _, call, result, _ = parse_chat(record, "messages")
    assert '{"name":"f"}' in system.content
    assert call.content == '<tool_call>{"name":"f","arguments":{}}</tool_call>'
    assert result.content == '<tool_response>{"name":"f","content":7}</tool_response>'


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        ([{"from": "function_call", "value": "call f"}], "turn 1: a call is no JSON"),
        ([{"from": "function_call", "value": "[1]"}], "turn 1: a call names no function"),
        (
            [{"from": "gpt", "value": None, "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            "turn 1: arg",
        ),
        ([{"from": "gpt", "value": None, "tool_calls": "["}], "turn 1: 'tool_calls' is no JSON"),
        ([{"from": "gpt", "value": None}], "turn 1: content is NoneType"),
        ([{"from": "alien", "value": "x"}], "known: .*observation"),
    ],
)
def test_what_cannot_be_read_is_named(turns, told):
    with pytest.raises(InputError, match=told):
        parse_chat({"conversations": turns}, "sharegpt")


@pytest.mark.parametrize("tools", ["a hammer", [{"type": "function"}], [1]])
def test_declarations_that_cannot_be_read_are_named(tools):
    with pytest.raises(InputError, match="'tools'"):
        read_tools({"tools": tools})


def test_forms():
    assert read_tools({"tools": ["calculator"]}) == [Tool("calculator")]
    assert read_tools({"tools": [], "functions": None}) == []
    assert read_tools({"functions": '[{"name": "f"}]'}) == [Tool("f")]
    assert read_calls({"tool_calls": [{"name": "f", "arguments": {"a": 1}}]}, 1) == (ToolCall("f", {"a": 1}),)
    assert read_call_turn('[{"name": "f"}, {"name": "g", "arguments": "{}"}]', 1) == (
        ToolCall("f", {}),
        ToolCall("g", {}),
    )
    turns = [ToolTurn("assistant", "", (ToolCall("f", {}),)), ToolTurn("tool", "1"), ToolTurn("tool", "2")]
    named = name_results(turns, [{}, {"name": "own"}, {}])
    assert [turn.name for turn in named[1:]] == ["own", None]


def test_a_call_may_come_in_parts_of_text():
    parts = [{"type": "text", "text": '{"name": "f", "arguments": {}}'}]
    _, call = parse_chat(
        {"messages": [{"role": "user", "content": "go"}, {"role": "function_call", "content": parts}]}, "messages"
    )
    assert call.content == '<tool_call>{"name":"f","arguments":{}}</tool_call>'
