"""Chats with tools as chats like any other, in which functions, calls and results are text.

Training and serving both come here before they render a prompt, in whatever style.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from llama_platform.models.prompt import Message
from llama_platform.models.tools import DECLARED, Tool, ToolCall, declare, write_call, write_result


@dataclass(frozen=True, slots=True)
class ToolTurn:
    """One turn of a chat with tools."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    """Of a tool's turn, what the function returned."""
    calls: tuple[ToolCall, ...] = ()
    """Calls with which an assistant's turn ends."""
    name: str | None = None
    """Function that a tool's turn is the result of; None where nobody says."""
    trained: bool | None = None
    """As of a Message."""


def plain_chat(turns: Sequence[ToolTurn], tools: Sequence[Tool]) -> list[Message]:
    """Return a chat in which functions, calls and results are text.

    Results that follow one another are one turn of the user's, which does not count in the loss.

    Args:
        turns: the chat.
        tools: functions that may be called; they are declared unless the system text does so itself.
    """
    messages: list[Message] = []
    for is_result, neighbours in groupby(turns, key=lambda turn: turn.role == "tool"):
        if is_result:
            results = "\n".join(write_result(one.name, one.content) for one in neighbours)
            messages.append(Message("user", results, trained=False))
        else:
            messages += [_plain(turn) for turn in neighbours]
    if tools and not (messages and messages[0].role == "system" and DECLARED in messages[0].content):
        system = messages.pop(0) if messages and messages[0].role == "system" else Message("system", "")
        text = "\n\n".join(part for part in (system.content, declare(tools)) if part.strip())
        messages.insert(0, Message("system", text, system.trained))
    return messages


def _plain(turn: ToolTurn) -> Message:
    assert turn.role != "tool"
    parts = [turn.content] if turn.content.strip() or not turn.calls else []
    return Message(turn.role, "\n".join([*parts, *map(write_call, turn.calls)]), turn.trained)
