"""Tools: functions that a model may call, and how calls and their results stand in a chat's text.

The form is Hermes' (Nous Research, «Hermes function calling»): functions are declared as JSON within `<tools>` at the
end of the system text, an answer ends with calls as JSON within `<tool_call>`, and the turn after it holds the results
within `<tool_response>`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llama_platform.errors import InputError

CALL_BEGIN, CALL_END = "<tool_call>", "</tool_call>"
DECLARED = "<tools>\n{"
_RESULT_BEGIN, _RESULT_END = "<tool_response>", "</tool_response>"
_TAG = re.compile(r"<(?=/?tool)")
_INSTRUCTION = (
    "Functions that you may call:\n<tools>\n{}\n</tools>\n"
    'To call some, end your answer with one line for each: <tool_call>{{"name":"...","arguments":{{...}}}}</tool_call>'
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: str = ""
    parameters: Any = None
    """JSON schema of its arguments; None for any object."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function."""

    name: str
    arguments: Any
    """A JSON value, an object as a rule."""


def declare(tools: Sequence[Tool]) -> str:
    """Return the part of a system text that tells which functions may be called."""
    functions = [
        {"name": tool.name}
        | ({"description": tool.description} if tool.description else {})
        | ({} if tool.parameters is None else {"parameters": tool.parameters})
        for tool in tools
    ]
    return _INSTRUCTION.format("\n".join(map(_json, functions)))


def write_call(call: ToolCall) -> str:
    """Return a call as it stands in an answer."""
    return f"{CALL_BEGIN}{_compact({'name': call.name, 'arguments': call.arguments})}{CALL_END}"


def write_result(name: str | None, text: str) -> str:
    """Return a function's result as the model reads it; nothing in it looks like a tag of ours."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    result = {} if name is None else {"name": name}
    return f"{_RESULT_BEGIN}{_json(result | {'content': value})}{_RESULT_END}"


def sample() -> list[str]:
    """Return texts by which one form of declarations, calls and results is told from another."""
    return [
        declare([Tool("f", "D", {"type": "object"}), Tool("g")]),
        write_call(ToolCall("f", {"a": [1, CALL_BEGIN]})),
        write_result("f", '{"r": 1}'),
        write_result(None, _RESULT_END),
    ]


def read_arguments(text: str) -> Any:
    """Return the arguments of a call from their JSON.

    Raises:
        InputError: it is none.
    """
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise InputError(f"arguments of a call are no JSON: {error}") from error


def _json(value: Any) -> str:
    """Return JSON from outside, with nothing in it that looks like a tag of ours."""
    return _TAG.sub(r"\\u003c", _compact(value))  # in JSON this sign stands in texts only


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
