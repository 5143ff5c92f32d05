"""StreamFilter: applies rules to a text that comes in pieces, so that nothing of what they forbid is sent.

As much of the text is held back as may still become a match. The result is the same however the text is cut, since a
match is decided only when all the text that it may reach is there; a whole text is a stream of one piece.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from llama_platform.safety.rules import ScreenRule, plain_text

PIECE = 2000
"""Characters of a whole text that are searched at a time, so that many matches in a long text cost linear time."""


@dataclass(frozen=True, slots=True)
class Screened:
    """What rules made of a text."""

    text: str
    """Up to the first match of a rule that blocks."""
    blocked_by: str | None
    """Name of the rule that blocks it."""
    redacted: tuple[str, ...]
    """Names of the rules that redacted something, once for each place."""
    flagged: tuple[str, ...]
    """Names of the rules that only note it."""


class StreamFilter:
    """Of one text."""

    def __init__(self, rules: Sequence[ScreenRule]) -> None:
        """Begin without text."""
        self._changing = [rule for rule in rules if rule.action != "flag"]
        self._noting = [rule for rule in rules if rule.action == "flag"]
        self._text = ""
        self._done = 0
        """Characters of `_text` that have been sent or replaced; they are kept as surroundings of what follows."""
        self._noted: list[str] = []
        self.blocked_by: str | None = None
        """Name of the rule that has ended the text; None while it goes on."""
        self.redacted: list[str] = []

    @property
    def changes(self) -> bool:
        """Return whether it may change the text."""
        return bool(self._changing)

    def feed(self, piece: str) -> str:
        """Add a piece, and return what of the text may be sent now; nothing more once it is blocked."""
        if self._noting:
            self._noted.append(piece)
        return self._advance(piece, ended=False) if self._changing else piece

    def finish(self) -> str:
        """End the text, and return the rest that may be sent."""
        return self._advance("", ended=True) if self._changing else ""

    def flagged(self) -> tuple[str, ...]:
        """Return the rules that note something in the text so far."""
        text = "".join(self._noted)
        return tuple(rule.name for rule in self._noting if rule.finder.first(text, 0) is not None)

    def _advance(self, piece: str, ended: bool) -> str:
        self._text += piece
        sent: list[str] = []
        while self.blocked_by is None:
            held = 0 if ended else max(rule.finder.open_chars(self._text) for rule in self._changing)
            decided = len(self._text) - held  # what begins before this cannot become another match any more
            found = self._first()
            if found is None or (found[0] >= decided and not ended):
                end = len(self._text) if ended else max(self._done, decided)
                sent.append(self._text[self._done : end])
                self._done = end
                break
            start, end, rule = found
            sent.append(self._text[self._done : start])
            self._done = end
            if rule.action == "block":
                self.blocked_by = rule.name
            else:
                sent.append(f"[{rule.name}]")
                self.redacted.append(rule.name)
        if (gone := self._done - 1) > 0:  # one character before shows whether a word begins
            self._text, self._done = self._text[gone:], 1
        return "".join(sent)

    def _first(self) -> tuple[int, int, ScreenRule] | None:
        """Return the first match of any rule; of several that begin there the longest, then the first rule's."""
        matches = [
            (match[0], -match[1], number, rule)
            for number, rule in enumerate(self._changing)
            if (match := rule.finder.first(self._text, self._done)) is not None
        ]
        if not matches:
            return None
        start, end, _, rule = min(matches, key=lambda match: match[:3])
        return start, -end, rule


def screen(text: str, rules: Sequence[ScreenRule]) -> Screened:
    """Return what rules make of a whole text.

    A text that hides words, by invisible characters or unusual letters, is screened without these; where nothing is
    found, it stays as it is.
    """
    found = _screened(text, rules)
    shown = plain_text(text)
    if shown != text:
        hidden = _screened(shown, rules)
        if hidden.text != shown or hidden.blocked_by or hidden.flagged:
            return hidden
    return found


def _screened(text: str, rules: Sequence[ScreenRule]) -> Screened:
    whole = StreamFilter(rules)
    kept = [whole.feed(text[start : start + PIECE]) for start in range(0, len(text), PIECE)]
    return Screened("".join(kept) + whole.finish(), whole.blocked_by, tuple(whole.redacted), whole.flagged())
