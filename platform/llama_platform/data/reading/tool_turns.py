"""Tools in records of chats: OpenAI's `tools`, `tool_calls` and results, its older `functions`; ShareGPT's turns."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llama_platform.errors import InputError
from llama_platform.models.tool_chat import ToolTurn
from llama_platform.models.tools import Tool, ToolCall, read_arguments

LISTS = ("tools", "functions")
"""Keys of a record that declare what may be called."""
TURN_KEYS = frozenset({"tool_calls", "function_call", "tool_call_id"})
RESULT_ROLES = frozenset({"tool", "function", "observation", "ipython", "tool_response"})
CALL_ROLES = frozenset({"function_call", "tool_call"})


def read_tools(record: Mapping[str, Any]) -> list[Tool]:
    """Return the functions that a record declares.

    Raises:
        InputError: a list of them cannot be read.
    """
    return [_tool(one, key) for key in LISTS for one in _listed(record.get(key), f"'{key}'")]


def read_calls(turn: Mapping[str, Any], number: int) -> tuple[ToolCall, ...]:
    """Return the calls beside a turn's text.

    Raises:
        InputError: they cannot be read.
    """
    calls = _listed(turn.get("tool_calls"), f"turn {number}: 'tool_calls'")
    if turn.get("function_call"):
        calls.append(turn["function_call"])
    return tuple(_call(one, number) for one in calls)


def read_call_turn(content: str, number: int) -> tuple[ToolCall, ...]:
    """Return the calls that a turn consists of, as ShareGPT has them: one as JSON, or a list of them.

    Raises:
        InputError: it is no such JSON.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"turn {number}: a call is no JSON: {error}") from error
    return tuple(_call(one, number) for one in (found if isinstance(found, list) else [found]))


def name_results(turns: Sequence[ToolTurn], ids: Sequence[Mapping[str, Any]]) -> list[ToolTurn]:
    """Return the turns, each result with the name of the function that it comes from, as far as that is told.

    A result's own name counts first, then the call with its id, then, of as many results as calls, the place.

    Args:
        turns: the turns of a chat, in order.
        ids: the record of each turn, in which ids and names stand.
    """
    names = {
        call["id"]: made.name
        for turn, record in zip(turns, ids, strict=True)
        for call, made in zip(_listed(record.get("tool_calls"), ""), turn.calls, strict=False)
        if isinstance(call, dict) and isinstance(call.get("id"), str)
    }
    named: list[ToolTurn] = []
    asked: list[str] = []
    for turn, record in zip(turns, ids, strict=True):
        if turn.role != "tool":
            asked = [call.name for call in turn.calls]
            named.append(turn)
            continue
        own, in_order = record.get("name"), asked.pop(0) if asked else None
        by_id = names.get(str(record.get("tool_call_id")))
        name = own if isinstance(own, str) and own else by_id or in_order
        named.append(ToolTurn("tool", turn.content, name=name))
    return named


def _listed(value: Any, where: str) -> list[Any]:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} is no JSON: {error}") from error
    if value in (None, "", [], {}) or (isinstance(value, str) and not value.strip()):
        return []
    return list(value) if isinstance(value, list) else [value]


def _tool(value: Any, key: str) -> Tool:
    if isinstance(value, str) and value:
        return Tool(value)
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise InputError(f"'{key}': a function has no name: {json.dumps(value)[:80]}")
    description, parameters = function.get("description") or "", function.get("parameters")
    return Tool(function["name"], str(description), parameters)


def _call(value: Any, number: int) -> ToolCall:
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise InputError(f"turn {number}: a call names no function: {json.dumps(value)[:80]}")
    arguments = function.get("arguments", function.get("parameters", {}))
    try:
        return ToolCall(function["name"], read_arguments(arguments) if isinstance(arguments, str) else arguments)
    except InputError as error:
        raise InputError(f"turn {number}: {error}") from error
