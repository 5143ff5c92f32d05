"""ClaimChecker: holds each sentence of an answer against its sources while the answer is written.

A citation stands only behind a sentence that its source supports; any other is taken out of the text and counted.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

from rag.citations import MARKER, MAY_BECOME, SENTENCE_END, Citation, CitationChecker, in_code
from rag.claims import SUPPORTED, Claim, Passages, weight
from rag.documents.chunking import Chunk

MOST_HELD = 800
"""Characters of a sentence without an end, as of a program, after which it is sent on in parts."""
_SUBSCRIPTED = re.compile(r"[\w)\]]\Z")
"""What a number in brackets right behind it is the subscript of; a citation, as a rule, stands behind a space."""
_LIST_NUMBER = re.compile(r"\d+[.)]")
_MARKERS = re.compile(rf"(?:\s*(?:{MARKER.pattern}))+", MARKER.flags)


class ClaimChecker:
    """Checks one answer as it comes, and remembers what it says and cites."""

    def __init__(self, sources: Sequence[Chunk], *, hold: bool = True) -> None:
        """Check against sources, numbered from 1; without any, nothing is judged.

        Args:
            sources: what the answer is written from.
            hold: whether text is let through by sentences, each judged before; else as it comes, and judged at the end,
                when citations cannot be taken out any more.
        """
        self._citations = CitationChecker(sources)
        self._count, self._hold = len(sources), hold and bool(sources)
        self._sources = sources
        self._held = ""
        self._removed = 0
        self._read = 0
        """Characters of the text in which claims have been found."""
        self.claims: list[Claim] = []

    @cached_property
    def _passages(self) -> Passages:
        return Passages(self._sources)  # when the first claim is judged

    @property
    def text(self) -> str:
        """The answer as it has been let through."""
        return self._citations.text

    @property
    def citations(self) -> list[Citation]:
        """Citations that stand."""
        return self._citations.citations

    @property
    def removed(self) -> int:
        """Citations that were taken out."""
        return self._citations.removed + self._removed

    def grounded(self) -> float:
        """Return from 0 to 1 which share of the answer's words stands in sentences that a source supports."""
        words = [weight(claim.text) for claim in self.claims]
        held = sum(count for count, claim in zip(words, self.claims, strict=True) if claim.supported)
        return round(held / max(1, sum(words)), 4)

    def feed(self, text: str) -> str:
        """Take more of an answer, and return what of it can be shown."""
        if not self._hold:
            return self._citations.feed(text)
        self._held += text
        return "".join(self._let_through(part) for part in self._whole_sentences())

    def finish(self) -> str:
        """Return what is left to be shown when the answer has ended."""
        rest, self._held = self._held, ""
        shown = "".join(self._let_through(rest[start:end]) for start, end in _sentences(rest)) if rest else ""
        shown += self._citations.finish()
        if not self._hold and self._count:
            for start, end in _sentences(self.text):
                for said, marks in _parts(self.text[start:end], self.text[:start]):
                    if self._is_claim(text := said.strip()):
                        _, score, source = self._judge(text, self._cited(marks))
                        self._remember(text, score, source)
        return shown

    def _whole_sentences(self) -> Iterator[str]:
        """Take out of what is held the sentences that have ended, with the citations behind them."""
        while (end := _first_end(self._held)) is not None or len(self._held) > MOST_HELD:
            if end is None:
                end = self._held.rfind(" ", 0, MOST_HELD) + 1 or MOST_HELD
            part, self._held = self._held[:end], self._held[end:]
            yield part

    def _let_through(self, sentence: str) -> str:
        """Judge a sentence, and return it without the citations that do not stand."""
        shown = ""
        for said, marks in _parts(sentence, self.text):
            text, cited = said.strip(), self._cited(marks)
            judged = self._judge(text, cited) if self._is_claim(text) else None
            good = judged is None or judged[0]
            if good or not cited or (marks.startswith("[") and _SUBSCRIPTED.search(said)):
                shown += self._citations.feed(said + marks)
            else:
                self._removed += len(cited)
                # White space behind a citation that goes is the sentence's own.
                shown += self._citations.feed(said.rstrip(" ") + marks[len(marks.rstrip()) :])
            if judged is not None:
                self._remember(text, *judged[1:])
        return shown

    def _judge(self, text: str, cited: Sequence[int]) -> tuple[bool, float, int | None]:
        """Return whether what a claim cites supports it, and the score and number of the source that says it best."""
        score, source = self._passages.judge(text, cited)
        good = score >= SUPPORTED
        if cited and not good:  # another may say so, which does not make the citation right
            best, other = self._passages.judge(text)
            score, source = max((score, source or 0), (best, other or 0))
        return good, score, source or None

    def _remember(self, text: str, score: float, source: int | None) -> None:
        """Keep a claim whose text has been let through, which tells where it stands."""
        start = max(self.text.find(text, self._read), 0)
        self._read = start + len(text)
        self.claims.append(Claim(text, (start, self._read), score >= SUPPORTED, round(score, 4), source))

    def _is_claim(self, text: str) -> bool:
        return self._count > 0 and weight(text) > 0 and _LIST_NUMBER.fullmatch(text) is None

    def _cited(self, marks: str) -> list[int]:
        return [n for n in map(int, re.findall(r"\d+", marks)) if 1 <= n <= self._count]


def _first_end(text: str) -> int | None:
    """Return where the first sentence ends, with the citations behind it; None where that cannot be told yet."""
    for found in SENTENCE_END.finditer(text):
        end = found.end()
        while (marker := MARKER.match(text, end + len(text[end:]) - len(text[end:].lstrip()))) is not None:
            end = marker.end()
        rest = text[end:].lstrip()
        if not rest or (MAY_BECOME.match(rest) and len(rest) < MOST_HELD):
            return None
        return end
    return None


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each sentence of a whole text begins and ends, with the citations behind it and all white space."""
    start = 0
    while start < len(text):
        end = _first_end(text[start:])
        following = len(text) if end is None else start + end
        yield start, following
        start = following


def _parts(sentence: str, before: str) -> Iterator[tuple[str, str]]:
    """Yield (text, citations behind it) of a sentence; what follows the last citation is a part of its own.

    Args:
        sentence: with the citations in it.
        before: what stands before it, which may have begun code; numbers in brackets within code cite nothing.
    """
    start = 0
    for found in _MARKERS.finditer(sentence):
        if in_code(before + sentence[: found.start()]):
            continue
        yield sentence[start : found.start()], found[0]
        start = found.end()
    if start < len(sentence):
        yield sentence[start:], ""
