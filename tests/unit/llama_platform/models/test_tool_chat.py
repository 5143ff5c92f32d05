import pytest

from llama_platform.models.prompt import Message
from llama_platform.models.tool_chat import ToolTurn, plain_chat
from llama_platform.models.tools import Tool, ToolCall, declare

TOOLS = [Tool("f", "does f", {"type": "object"})]
CALLS = (ToolCall("f", {"a": 1}), ToolCall("f", {}))
TURNS = [
    ToolTurn("system", "Be kind."),
    ToolTurn("user", "go"),
    ToolTurn("assistant", "I look.", CALLS),
    ToolTurn("tool", "7", name="f"),
    ToolTurn("tool", "none", name="f"),
    ToolTurn("assistant", "It is 7.", trained=False),
]


def test_a_chat_with_tools_is_a_chat():
    assert plain_chat(TURNS, TOOLS) == [
        Message("system", f"Be kind.\n\n{declare(TOOLS)}"),
        Message("user", "go"),
        Message(
            "assistant",
            'I look.\n<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>\n'
            '<tool_call>{"name":"f","arguments":{}}</tool_call>',
        ),
        Message(
            "user",
            '<tool_response>{"name":"f","content":7}</tool_response>\n'
            '<tool_response>{"name":"f","content":"none"}</tool_response>',
            trained=False,
        ),
        Message("assistant", "It is 7.", trained=False),
    ]


def test_functions_are_declared_once():
    assert plain_chat(TURNS[1:2], TOOLS) == [Message("system", declare(TOOLS)), Message("user", "go")]
    already = [ToolTurn("system", f"Mine: {declare(TOOLS)}"), ToolTurn("user", "go")]
    assert plain_chat(already, TOOLS)[0].content == already[0].content
    only_speaks_of_it = [ToolTurn("system", "Wrap <tools> in XML."), ToolTurn("user", "go")]
    assert declare(TOOLS) in plain_chat(only_speaks_of_it, TOOLS)[0].content
    assert plain_chat(TURNS[:2], []) == [Message("system", "Be kind."), Message("user", "go")]


@pytest.mark.parametrize("style", ["plain", "llama2"])
def test_calls_count_in_the_loss_and_results_do_not(tiny_template, style):
    template = type(tiny_template)(tiny_template.tokenizer, style)
    asked = [*TURNS[:-1], ToolTurn("assistant", "It is 7.")]
    tokens = template.encode_chat(plain_chat(asked, TOOLS))
    decode = template.tokenizer.decode
    trained = decode([i for i, counts in zip(tokens.input_ids, tokens.trained, strict=True) if counts])
    untrained = decode([i for i, counts in zip(tokens.input_ids, tokens.trained, strict=True) if not counts])
    assert "<tool_call>" in trained
    assert "tool_response" not in trained
    assert "<tool_response>" in untrained
    assert "<tools>" in untrained
