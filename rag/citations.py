"""Citations: `[n]` in an answer, checked against the sources while the answer is written.

A citation of a source that is not there, or of a quotation that the source does not hold, is taken out of the text
and counted. Every other one points at the sentence of the source that is most like what it stands behind.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

from rag.documents.chunking import Chunk
from rag.lexical_index import terms
from rag.prompt import shown_text

MARKER = re.compile(r"\[\s*(?:sources?\s+)?(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\s*\]", re.IGNORECASE)
MAY_BECOME = re.compile(r"\[\s*(?:s\w{0,6}\s*)?[\d\s,;]*\Z", re.IGNORECASE)
_LONGEST = 60
"""Characters of a marker."""
SENTENCE_END = re.compile(r"[.!?](?=\s|\Z)|(?<=\|)\n|\n(?=\s*\n|[ \t]*(?:[-*+|#>`]|\d+[.)]\s))")
"""A line that ends within a paragraph ends no sentence; lines of lists, tables and code do."""
_QUOTED = re.compile(r"\"([^\"\n]+)\"|“([^”\n]+)”|«([^»\n]+)»")
_LEAST_ALIKE = 30.0


@dataclass(frozen=True, slots=True)
class Citation:
    """A place in the answer, and the place in a document that it points at."""

    n: int
    at: int
    """Character of the answer at which the marker stands."""
    span: tuple[int, int]
    """Characters of the document."""
    text: str
    """What stands there."""


class CitationChecker:
    """Checks one answer as it comes, and remembers what it cites."""

    def __init__(self, sources: Sequence[Chunk]) -> None:
        """Check against sources, numbered from 1."""
        self._sources = sources
        self._text = ""
        self._held = ""
        self._cited = 0
        """Where the last marker ends."""
        self._claim, self._quotations = "", list[str]()
        """What it stands behind, and what is quoted there."""
        self.citations: list[Citation] = []
        self.removed = 0

    @property
    def text(self) -> str:
        """The answer as it has been let through."""
        return self._text

    def feed(self, text: str) -> str:
        """Take more of an answer, and return what of it can be shown."""
        self._held += text
        return self._settle(last=False)

    def finish(self) -> str:
        """Return what is left to be shown when the answer has ended."""
        return self._settle(last=True)

    def _settle(self, *, last: bool) -> str:
        before = len(self._text)
        while self._held:
            start = self._held.find("[")
            if start < 0:
                self._pass(self._held if last else self._held.rstrip(" "))
                break
            marker = MARKER.match(self._held, start)
            undecided = len(self._held) - start < _LONGEST and MAY_BECOME.match(self._held, start)
            if marker is None and undecided and not last:
                self._pass(self._held[:start].rstrip(" "))  # a marker that goes takes the space before it along
                break
            if marker is None or not self._is_marker(self._held[:start], marker):
                self._pass(self._held[: start + 1 if marker is None else marker.end()])
                continue
            space = self._held[:start]
            self._pass(space.rstrip(" "))
            self._cite([int(number) for number in re.findall(r"\d+", marker[1])], space[len(space.rstrip(" ")) :])
            self._held = self._held[marker.end() - start + len(space) - len(space.rstrip(" ")) :]
        return self._text[before:]

    def _pass(self, text: str) -> None:
        """Let the head of what is held through."""
        self._held = self._held[len(text) :]
        self._text += text if self._text else text.lstrip()

    def _is_marker(self, before: str, marker: re.Match[str]) -> bool:
        """Tell citations from code and its subscripts."""
        written = self._text + before
        if in_code(written):
            return False
        known = any(1 <= int(number) <= len(self._sources) for number in re.findall(r"\d+", marker[1]))
        follows_another = len(written) == self._cited
        return known or follows_another or not re.search(r"[\w)\]]\Z", written)

    def _cite(self, numbers: list[int], space: str) -> None:
        since = self._text[self._cited :]
        if since.strip(" ,;"):  # of markers in a row, all stand behind the same
            self._claim, self._quotations = _claim(since)
        space = space if self._text else ""
        known = {n: self._sources[n - 1] for n in numbers if 1 <= n <= len(self._sources)}
        places = {n: [_find(quotation, chunk.text) for quotation in self._quotations] for n, chunk in known.items()}
        # Each quotation must be in one of the sources, and each source must hold one of the quotations.
        invented = any(not any(found) for found in zip(*places.values(), strict=True))
        good = []
        for n in dict.fromkeys(numbers):
            found = [place for place in places.get(n, ()) if place]
            if n not in known or invented or (self._quotations and not found):
                self.removed += 1
            elif found:
                good.append((n, (known[n].start + found[-1][0], known[n].start + found[-1][1])))
            else:
                good.append((n, self._span(known[n])))
        if good:
            at = len(self._text) + len(space)
            for n, (start, end) in good:
                chunk = self._sources[n - 1]
                text = chunk.text[start - chunk.start : end - chunk.start]
                self.citations.append(Citation(n, at, (start, end), text))
            self._text += f"{space}[{', '.join(str(n) for n, _ in good)}]"
        self._cited = len(self._text)

    def _span(self, chunk: Chunk) -> tuple[int, int]:
        """Return what of a chunk is most like the claim: a sentence, or all of it."""
        scored = [
            (fuzz.token_set_ratio(self._claim.lower(), chunk.text[start:end].lower()), -start, end)
            for start, end in sentences(chunk.text)
        ]
        score, start, end = max(scored, default=(0.0, 0, len(chunk.text)))
        if score < _LEAST_ALIKE:
            return chunk.start, chunk.end
        return chunk.start - start, chunk.start + end


def in_code(written: str) -> bool:
    """Return whether what follows a text stands within code that it has begun."""
    line = written.rpartition("\n")[2]
    return bool(written.count("```") % 2 or line.replace("```", "").count("`") % 2)


def extracts(sources: Sequence[Chunk], question: str, count: int = 2) -> str:
    """Return the sentences of the best source that say most of what is asked, in order, cited as `[1]`.

    A word of the question counts the more, the fewer of the sentences hold it.

    Args:
        sources: best first, at least one.
        question: what is asked.
        count: how many sentences at most.
    """
    text = sources[0].text
    spans = list(sentences(text)) or [(0, len(text))]
    words = [set(found) for found in terms([text[start:end] for start, end in spans])]
    asked = set(terms([question])[0])
    rarity = {word: 1 / max(1, sum(word in held for held in words)) for word in asked}
    scores = [sum(rarity[word] for word in asked & held) for held in words]
    best = sorted(range(len(spans)), key=lambda number: (-scores[number], number))[:count]
    chosen = sorted(number for number in best if scores[number] > 0) or best[:1]
    return "\n".join(f"{' '.join(shown_text(text[slice(*spans[number])]).split())} [1]" for number in chosen)


def is_beside(answer: str, extract: str, question: str) -> bool:
    """Return whether an answer holds less than half as many of a question's words as sentences of its source do.

    Args:
        answer: what a model has said, true or not.
        extract: what `extracts` returned for the same question.
        question: what is asked.
    """
    asked, said, there = map(set, terms([question, answer, extract]))
    return 2 * len(asked & said) < len(asked & there)


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each sentence or line of a text begins and ends, without the white space around it."""
    start = 0
    for end in [*(found.end() for found in SENTENCE_END.finditer(text)), len(text)]:
        piece = text[start:end]
        if piece.strip():
            yield start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
        start = end


def _claim(text: str) -> tuple[str, list[str]]:
    """Return the last sentence of a text, and the quotations that end in it."""
    spans = list(sentences(text))
    start, end = spans[-1] if spans else (0, len(text))
    quoted = [found for found in _QUOTED.finditer(text) if found.end() > start]
    quotations = ["".join(filter(None, found.groups())) for found in quoted]
    return text[start:end], [quotation for quotation in quotations if len(quotation.split()) > 1]


def _find(quotation: str, text: str) -> tuple[int, int] | None:
    """Return where a quotation stands in a text, whatever the case and the spaces."""
    words = [re.escape(word) for word in quotation.strip(" .,;:!?…").split()]
    found = re.search(r"\s+".join(words), text, re.IGNORECASE) if words else None
    return found.span() if found else None
