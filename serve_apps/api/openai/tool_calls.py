"""Tool calls out of an answer's text, as it comes: text first, then calls in the form of `models.tools`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from llama_platform.models.tools import CALL_BEGIN, CALL_END

_NAME, _ARGUMENTS = '{"name":"', '","arguments":'


@dataclass(frozen=True, slots=True)
class CallPiece:
    """What has come of a call since the last piece."""

    number: int
    """Of the call in its answer, from 0."""
    arguments: str
    """The next piece of the JSON of its arguments."""
    name: str | None = None
    """Of the function, with the first piece of a call; None afterwards."""


class ToolCallReader:
    """Parts the text of one answer, which a grammar holds to its form from the first call on."""

    def __init__(self, *, is_json: bool = False) -> None:
        """Begin before the first character.

        Args:
            is_json: whether an answer without calls is JSON, in whose texts the sign of a call means nothing.
        """
        self._held = ""
        self._state: str = "undecided" if is_json else "text"
        self._depth, self._in_string, self._escaped = 0, False, False
        self.count = 0
        """Calls that have begun."""
        self.open = False
        """Whether the last call is not whole yet."""

    def feed(self, piece: str) -> tuple[str, list[CallPiece]]:
        """Return (text for the reader, pieces of calls) that are certain now."""
        self._held += piece
        text, pieces = "", []
        while True:
            before = (self._state, len(self._held))
            if self._state == "undecided":
                self._decide()
            elif self._state == "json":
                text, self._held = text + self._held, ""
            elif self._state == "text":
                text += self._take_text()
            elif self._state == "head":
                pieces += self._take_head()
            elif self._state == "arguments":
                pieces += self._take_arguments()
            else:
                self._take_end()
            if before == (self._state, len(self._held)):
                return text, _joined(pieces)

    def finish(self) -> str:
        """Return the text that was held back, which no call has begun with."""
        text = self._held if self._state in ("text", "undecided") and not self.count else ""
        self._held = ""
        return text

    def _decide(self) -> None:
        """Tell by its beginning whether an answer is JSON or calls."""
        begun = self._held.lstrip()
        if begun.startswith(CALL_BEGIN):
            self._state = "text"
        elif not CALL_BEGIN.startswith(begun):
            self._state = "json"

    def _take_text(self) -> str:
        found = self._held.find(CALL_BEGIN)
        if found >= 0:
            text, self._held, self._state = self._held[:found].rstrip(), self._held[found + len(CALL_BEGIN) :], "head"
            self.open = True
            return "" if self.count else text
        if self.count:  # line ends between calls
            return ""
        # White space may stand before a call, and is no part of the text then.
        sure = self._held[: len(self._held) - _overlap(self._held)].rstrip()
        self._held = self._held[len(sure) :]
        return sure

    def _take_head(self) -> list[CallPiece]:
        end = self._held.find(_ARGUMENTS)
        if end < 0:
            return []
        name = self._held[len(_NAME) : end]
        self._held, self._state, self.count = self._held[end + len(_ARGUMENTS) :], "arguments", self.count + 1
        self._depth, self._in_string, self._escaped = 0, False, False
        return [CallPiece(self.count - 1, "", name)]

    def _take_arguments(self) -> list[CallPiece]:
        taken = 0
        for sign in self._held:
            taken += 1
            if self._in_string:
                self._in_string = self._escaped or sign != '"'
                self._escaped = sign == "\\" and not self._escaped
            elif sign == '"':
                self._in_string = True
            elif sign in "{[":
                self._depth += 1
            elif sign in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self._state = "end"
                    break
        piece, self._held = self._held[:taken], self._held[taken:]
        return [CallPiece(self.count - 1, piece)] if piece else []

    def _take_end(self) -> None:
        end = "}" + CALL_END
        if self._held.startswith(end):
            self._held, self._state, self.open = self._held[len(end) :], "text", False


def _joined(pieces: Sequence[CallPiece]) -> list[CallPiece]:
    """Return one piece for each call: clients expect a call once in a chunk at most."""
    joined: list[CallPiece] = []
    for piece in pieces:
        if joined and joined[-1].number == piece.number:
            joined[-1] = replace(joined[-1], arguments=joined[-1].arguments + piece.arguments)
        else:
            joined.append(piece)
    return joined


def _overlap(text: str) -> int:
    """Return how many characters at a text's end may be the beginning of a call."""
    longest = min(len(text), len(CALL_BEGIN) - 1)
    return next((size for size in range(longest, 0, -1) if CALL_BEGIN.startswith(text[-size:])), 0)


def calls_of(text: str, call_id: str, *, is_json: bool = False) -> tuple[str, list[dict[str, Any]], bool]:
    """Return (text before the calls, calls in OpenAI's form, whether the last one is whole) of an answer.

    Args:
        text: the answer.
        call_id: beginning of the calls' ids.
        is_json: as of a ToolCallReader.
    """
    reader = ToolCallReader(is_json=is_json)
    spoken, pieces = reader.feed(text)
    calls: list[dict[str, Any]] = []
    for piece in pieces:
        if piece.name is not None:
            function = {"name": piece.name, "arguments": ""}
            calls.append({"id": f"{call_id}-{piece.number}", "type": "function", "function": function})
        calls[piece.number]["function"]["arguments"] += piece.arguments
    return spoken + reader.finish(), calls, not reader.open
