"""Chunks: pieces of documents along headings, paragraphs, tables and code, each with its place in the source."""

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field

from llama_platform.config import Config
from rag.documents.blocks import Block
from rag.documents.document import Document

Tokens = Callable[[str], Iterable[int]]
"""Returns where each token of a text begins, in order; of what a tokenizer cannot read, each character is one."""
MAX_HEADING_CHARS = 200
"""Of a title, and of each heading in a path: they are repeated in every chunk below them."""
MAX_HEADINGS_CHARS = 400
_PLACE_CHARS = 80
"""Of a path, and of each part of a place, that are embedded: more would outweigh the text."""
_PATH_SIGNS = re.compile(r"[/_.-]+|README")
_NO_WORD = re.compile(r"\b[0-9a-f]{8,}\b|\b\d{5,}\b", re.IGNORECASE)
"""Digests and parts of UUIDs."""
_ENDS = {
    "text": (r"[.!?。！？।](?=\s|[^\x00-\x7f])", r"(?=\n)", r"(?=\s)"),
    "table": (r"(?=\n)", r"(?=\s)"),
    "code": (r"(?=\n\s*\n)", r"(?=\n)", r"(?=\s)"),
}
"""Where a block that is too long is cut, the best places first."""
_STARTS = {
    "text": (r"(?<=[.!?])\s+|(?<=[。！？।])\s*|\n+", r"\s+"),
    "table": (r"\n+",),
    "code": (r"\n+",),
}
"""Where a piece may begin to repeat the end of the one before it."""
_TABLE_RULE = re.compile(r"[\s|:-]+")


class ChunkingConfig(Config):
    """Sizes of chunks."""

    chunk_tokens: Annotated[int, Field(ge=16)] = 200
    """Tokens of a chunk's text at most, by the embedding model's tokenizer."""
    overlap_tokens: Annotated[int, Field(ge=0)] = 30
    """How much of its predecessor a piece of a long paragraph repeats at most."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document."""

    document: str
    title: str
    heading: str
    """Heading path below the title, joined by ` > `; empty before the first heading."""
    text: str
    start: int
    end: int
    """Character span in the document's text; `text` is exactly this slice."""
    page: int | None = None
    """From 1, where the document has pages."""
    tags: tuple[str, ...] = ()
    date: str | None = None
    """`YYYY-MM-DD` of the document."""

    def place(self) -> str:
        """Return title and headings, as a reader would name the place."""
        return " > ".join(part for part in (self.title, self.heading) if part)

    def embedded_text(self) -> str:
        """Return what is embedded: words of the document's path, the place, then the text.

        Paths such as `deploy/helm.md` often name a topic that the text takes for granted. Of long paths and headings
        the end is taken.
        """
        path = _NO_WORD.sub(" ", _PATH_SIGNS.sub(" ", PurePosixPath(self.document).with_suffix("").as_posix()))
        place = " > ".join(part[:_PLACE_CHARS] for part in [self.title, *self.heading.split(" > ")[-2:]] if part)
        return f"{' '.join(path.split())[-_PLACE_CHARS:].strip()}: {place}\n{self.text}"


@dataclass(frozen=True, slots=True)
class _Part:
    """Blocks that follow each other under the same headings."""

    headings: tuple[str, ...]
    start: int
    end: int
    kind: str
    page: int | None


class _Measure:
    """How many tokens parts of a text have."""

    def __init__(self, text: str, tokens: Tokens) -> None:
        self._text, self._tokens = text, tokens
        self._starts = array("q", tokens(text))

    def count(self, start: int, end: int) -> int:
        first = bisect_left(self._starts, start)
        begun = first == len(self._starts) or self._starts[first] != start  # what is left of a token counts, too
        return bisect_left(self._starts, end) - first + (begun and not self._text[start - 1 : start].isspace())

    def last_end(self, start: int, end: int, limit: int) -> int:
        """Return the furthest end of a text of at most `limit` tokens that begins at `start`."""
        number = bisect_left(self._starts, start) + limit
        last = min(end, self._starts[number]) if number < len(self._starts) else end
        # Within a word, a part of it may have more tokens than it has there.
        while last > start + 1 and len(list(self._tokens(self._text[start:last]))) > limit:
            last -= 1
        return max(last, start + 1)

    def first_start(self, start: int, end: int, limit: int) -> int:
        """Return the earliest start of a text of at most `limit` tokens that ends at `end`."""
        number = bisect_left(self._starts, end) - limit
        return max(start, self._starts[number]) if 0 <= number < len(self._starts) else start


def split_document(document: Document, max_tokens: int, overlap_tokens: int, tokens: Tokens) -> list[Chunk]:
    """Cut a document into chunks of at most `max_tokens` tokens, headings and title not counted.

    Blocks under the same heading are joined while they fit. A block that alone is too long is cut between sentences,
    lines or words, in this order of preference, and its pieces overlap. A table is cut between its rows, and its header
    is part of the heading of each piece. Every word of the text is in a chunk's text or in its heading.

    Args:
        document: the source.
        max_tokens: bound on the tokens of a chunk's text.
        overlap_tokens: how much of its predecessor a piece of a long block repeats at most.
        tokens: returns where each token of a text begins.
    """
    facts, text = document.facts, document.text
    first = next((block.heading for block in document.blocks if block.heading), "")
    title = (facts.title or first or PurePosixPath(document.id).stem)[:MAX_HEADING_CHARS]
    measure = _Measure(text, tokens)
    chunks: list[Chunk] = []
    for part in _joined(_parts(document.blocks), max_tokens, measure):
        below = part.headings[1:] if part.headings[:1] == (title,) else part.headings
        pieces = list(_pieces(text, part, max_tokens, overlap_tokens, measure))
        for number, (start, end) in enumerate(pieces):
            header = _table_header(text, part) if part.kind == "table" and number > 0 else ()
            heading = " > ".join((*below, *header))[:MAX_HEADINGS_CHARS]
            chunks.append(
                Chunk(document.id, title, heading, text[start:end], start, end, part.page, facts.tags, facts.date)
            )
    return chunks


def _parts(blocks: Iterable[Block]) -> Iterator[_Part]:
    """Yield the blocks with their headings, and those headings that are in no other part's path."""
    path: list[tuple[int, str]] = []
    lonely: tuple[Block, tuple[str, ...]] | None = None
    for block in blocks:
        if block.kind != "heading":
            lonely = None
            yield _Part(tuple(heading for _, heading in path), block.start, block.end, block.kind, block.page)
            continue
        if lonely is not None and lonely[0].level >= block.level:
            yield _as_part(*lonely)
        path = [*((depth, heading) for depth, heading in path if depth < block.level)]
        path.append((block.level, block.heading[:MAX_HEADING_CHARS]))
        headings = tuple(heading for _, heading in path)
        if len(block.heading) > MAX_HEADING_CHARS or len(" > ".join(headings)) > MAX_HEADINGS_CHARS:
            lonely = None
            yield _as_part(block, headings)
        else:
            lonely = block, headings
    if lonely is not None:
        yield _as_part(*lonely)


def _as_part(heading: Block, path: tuple[str, ...]) -> _Part:
    return _Part(path[:-1], heading.start, heading.end, "text", heading.page)


def _joined(parts: Iterable[_Part], max_tokens: int, measure: _Measure) -> Iterator[_Part]:
    current: _Part | None = None
    for part in parts:
        joins = current is not None and (current.headings, current.page) == (part.headings, part.page)
        if current and joins and measure.count(current.start, part.end) <= max_tokens:
            current = replace(current, end=part.end)
            continue
        if current:
            yield current
        current = part
    if current:
        yield current


def _pieces(
    text: str, part: _Part, max_tokens: int, overlap_tokens: int, measure: _Measure
) -> Iterator[tuple[int, int]]:
    start, end = part.start, part.end
    while measure.count(start, end) > max_tokens:
        cut = _cut(text, start, measure.last_end(start, end, max_tokens), part.kind)
        yield start, cut
        following = cut
        while following < end and text[following].isspace():
            following += 1
        back = _overlap(text, measure.first_start(start, cut, overlap_tokens), cut, part.kind)
        # A piece must move on: an overlap that reaches back to its own start would repeat for ever.
        start = back if overlap_tokens and start < back < cut else following
    if start < end:
        yield start, end


def _cut(text: str, start: int, last: int, kind: str) -> int:
    """Return the best place to end a piece that may end at `last`."""
    for pattern in _ENDS[kind]:
        least = start if kind == "table" else start + (last - start) // 2
        ends = [found.end() for found in re.finditer(pattern, text[start : last + 1])]
        fitting = [start + end for end in ends if least < start + end <= last]
        if fitting:
            return fitting[-1]
    return last


def _overlap(text: str, begin: int, end: int, kind: str) -> int:
    """Return the earliest start of a sentence, line or word from `begin` on; `end` if there is none."""
    for pattern in _STARTS[kind]:
        starts = [begin + gap.end() for gap in re.finditer(pattern, text[begin:end]) if begin + gap.end() < end]
        if starts:
            return starts[0]
    return end


def _table_header(text: str, part: _Part) -> tuple[str, ...]:
    """Return the names of a table's columns, as one heading; nothing of a table without a header."""
    header = text[part.start : part.end].split("\n", 1)[0]
    names = " | ".join(cell.strip() for cell in header.strip().strip("|").split("|") if cell.strip())
    return () if not names or _TABLE_RULE.fullmatch(header) else (names[:MAX_HEADING_CHARS],)


def coverage(document: Document, chunks: Iterable[Chunk]) -> float:
    """Return which share of a document's words its chunks hold, in their texts or headings, from 0 to 1."""
    held = bytearray(len(document.text))
    headings = (block for block in document.blocks if 0 < len(block.heading) <= MAX_HEADING_CHARS)
    spans = [(chunk.start, chunk.end) for chunk in chunks] + [(block.start, block.end) for block in headings]
    for start, end in spans:
        held[start:end] = b"\1" * (end - start)
    words = [found.span() for found in re.finditer(r"\w+", document.text)]
    whole = sum(end - start for start, end in words)
    return sum(held.count(1, start, end) for start, end in words) / whole if whole else 1.0
