"""Detokenizer: a growing text out of growing tokens, whole characters only, ending before any stop text."""

from collections.abc import Sequence
from typing import Any

_UNFINISHED = "\ufffd"


class Detokenizer:
    """Turns the tokens of one answer into text that may be shown at once."""

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        """Start an answer.

        Args:
            tokenizer: a transformers tokenizer.
            stop: texts before which the answer ends.
        """
        self._tokenizer = tokenizer
        self._stop = tuple(text for text in stop if text)
        self._ids: list[int] = []
        self._shown = 0
        self.stopped = False
        """Whether a stop text was reached."""

    def push(self, token_ids: Sequence[int]) -> str:
        """Add tokens and return the text that has become final."""
        self._ids += token_ids
        text = self._decode()
        return self._show(text, len(text) - self._held_back(text))

    def finish(self) -> str:
        """Return the rest of the text."""
        text = self._decode()
        return self._show(text, len(text))

    def _decode(self) -> str:
        text: str = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        text = text.lstrip(" ")
        starts = [start for stop in self._stop if (start := text.find(stop)) >= 0]
        if starts:
            self.stopped = True
            return text[: min(starts)]
        return text

    def _show(self, text: str, end: int) -> str:
        piece = text[self._shown : end]
        self._shown = max(self._shown, end)
        return piece

    def _held_back(self, text: str) -> int:
        if self.stopped:
            return 0
        # The start of a character, or of a stop text, may still become something else.
        unfinished = len(text) - len(text.rstrip(_UNFINISHED))
        beginnings = (n for stop in self._stop for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(unfinished, max(beginnings, default=0))
