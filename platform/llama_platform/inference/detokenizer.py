"""Detokenizer: a growing text out of growing tokens, whole characters only, ending before any stop text."""

from collections.abc import Sequence
from typing import Any

_UNFINISHED = "\ufffd"
_CONTEXT = 8
"""Tokens that decide how the text after them is joined."""
_CHARACTER = 4
"""Tokens that a character takes at most: Llama spells what is not in its vocabulary in bytes."""


class Detokenizer:
    """Turns the tokens of one answer into text that may be shown at once.

    Only the last few tokens are decoded again with each new one: those since the text was last complete, and before
    them the ones that decide how they are joined.
    """

    def __init__(
        self,
        tokenizer: Any,
        stop: Sequence[str],
        context: Sequence[int] = (),
        min_tokens: int = 0,
        *,
        continues: bool = False,
    ) -> None:
        """Start an answer.

        Args:
            tokenizer: a transformers tokenizer.
            stop: texts before which the answer ends.
            context: tokens of the prompt.
            min_tokens: tokens before which no stop text ends the answer.
            continues: whether the answer goes on with the prompt's text; otherwise the space between the two is no part
                of it.
        """
        # The tokenizer's own decoder: transformers' wrapper takes ten times as long, for each token of each answer.
        plain = not getattr(tokenizer, "clean_up_tokenization_spaces", False)
        self._decoder = getattr(tokenizer, "backend_tokenizer", tokenizer) if plain else tokenizer
        self._stop = tuple(text for text in stop if text)
        self._context, self._new = self._at_characters(list(context))
        self._missing = min_tokens
        self._begun = continues
        self._held = ""
        self.stopped = False
        """Whether a stop text was reached."""

    def push(self, token_ids: Sequence[int]) -> str:
        """Add tokens and return the text that has become final."""
        self._new += token_ids
        self._missing -= len(token_ids)
        before = self._decode(self._context)
        text = self._decode(self._context + self._new)
        if text == before:  # tokens without text, such as special ones, would be decoded for ever
            self._new = []
        if text.endswith(_UNFINISHED) or len(text) <= len(before):
            return ""  # the start of a character
        self._context, self._new = self._new, []
        return self._show(text[len(before) :], final=False)

    def finish(self) -> str:
        """Return the rest of the text; a character that was never finished is left out."""
        before = self._decode(self._context)
        text = self._decode(self._context + self._new).rstrip(_UNFINISHED)
        self._new = []
        return self._show(text[len(before) :], final=True)

    def _at_characters(self, token_ids: list[int]) -> tuple[list[int], list[int]]:
        """Return the last tokens of a text: some that begin and end with a character, and those of one that is begun.

        Bytes are decoded together, and all of them are lost where they begin or end within a character.
        """
        for begun in range(_CHARACTER):
            end = len(token_ids) - begun
            for length in range(_CONTEXT, _CONTEXT + _CHARACTER):
                chosen = token_ids[max(0, end - length) : end]
                if _UNFINISHED not in self._decode(chosen):
                    return chosen, token_ids[end:]
        return token_ids[-_CONTEXT:], []

    def _decode(self, token_ids: Sequence[int]) -> str:
        text: str = self._decoder.decode(token_ids, skip_special_tokens=True)
        return text

    def _show(self, text: str, final: bool) -> str:
        if self.stopped:
            return ""
        if not self._begun and text:
            text = text.removeprefix(" ")
            self._begun = True
        text = self._held + text
        if self._missing > 0:
            self._held = ""
            return text
        starts = [start for stop in self._stop if (start := text.find(stop)) >= 0]
        if starts:
            self.stopped, self._held = True, ""
            return text[: min(starts)]
        # The start of a stop text may still become one.
        end = len(text) - (0 if final else max((_overlap(text, stop) for stop in self._stop), default=0))
        self._held = text[end:]
        return text[:end]


def _overlap(text: str, stop: str) -> int:
    """Return the characters at the end of a text that are the beginning of a stop text, the most there are."""
    start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while start >= 0:
        if stop.startswith(text[start:]):
            return len(text) - start
        start = text.find(stop[0], start + 1)
    return 0
