"""Chunks: pieces of documents along headings, paragraphs and code blocks, each with its place in the source."""

import itertools
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Annotated

from markdown_it import MarkdownIt
from pydantic import Field

from llama_platform.config import Config
from rag.documents.document import Document

TokenCounter = Callable[[str], int]
# No more than this much text is counted at a time, or long documents would take quadratic time.
MAX_TOKEN_CHARS = 20
MAX_HEADING_CHARS = 200
"""Of a title, and of each heading in a path: they are repeated in every chunk below them."""
MAX_HEADINGS_CHARS = 400
_PARAGRAPH_GAP = re.compile(r"\n\s*\n")
_PATH_SIGNS = re.compile(r"[/_.-]+|README")


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

        Paths such as `deploy/helm.md` often name a topic that the text takes for granted.
        """
        path = _PATH_SIGNS.sub(" ", PurePosixPath(self.document).with_suffix("").as_posix()).strip()
        return f"{path}: {self.place()}\n{self.text}"


@dataclass(frozen=True, slots=True)
class _Block:
    headings: tuple[str, ...]
    start: int
    end: int
    page: int | None = None


def split_document(document: Document, max_tokens: int, overlap_tokens: int, count: TokenCounter) -> list[Chunk]:
    """Cut a document into chunks of at most `max_tokens` tokens, headings and title not counted.

    Blocks under the same heading are joined while they fit. A block that alone is too long is cut between
    sentences, lines or words, in this order of preference, and its pieces overlap.

    Args:
        document: the source.
        max_tokens: bound on the tokens of a chunk's text.
        overlap_tokens: how much of its predecessor a piece of a long block repeats at most.
        count: returns the number of tokens of a text.
    """
    blocks = list(_blocks(document))
    facts, stem = document.facts, PurePosixPath(document.id).stem
    title = (facts.title or next((block.headings[0] for block in blocks if block.headings), stem))[:MAX_HEADING_CHARS]
    chunks: list[Chunk] = []
    for block in _joined(document.text, blocks, max_tokens, count):
        below = block.headings[1:] if block.headings[:1] == (title,) else block.headings
        heading = " > ".join(below)[:MAX_HEADINGS_CHARS]
        for start, end in _pieces(document.text, block.start, block.end, max_tokens, overlap_tokens, count):
            text = document.text[start:end]
            chunks.append(Chunk(document.id, title, heading, text, start, end, block.page, facts.tags, facts.date))
    return chunks


def _blocks(document: Document) -> Iterator[_Block]:
    text, starts = document.text, document.page_starts
    if document.markdown:
        yield from _markdown_blocks(text)
    elif not starts:
        yield from _text_blocks(text, 0, len(text), None)
    else:
        for page, (start, end) in enumerate(itertools.pairwise((*starts, len(text))), 1):
            yield from _text_blocks(text, start, end, page)


def _markdown_blocks(text: str) -> Iterator[_Block]:
    offsets = [0]
    for line in text.split("\n"):
        offsets.append(offsets[-1] + len(line) + 1)
    offsets[-1] = len(text)
    path: list[tuple[int, str]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for index, token in enumerate(tokens):
        if token.level != 0 or token.map is None or token.nesting == -1:
            continue
        if token.type == "heading_open":
            depth = int(token.tag[1:])
            heading = " ".join(tokens[index + 1].content.split())[:MAX_HEADING_CHARS]
            path = [*((d, h) for d, h in path if d < depth), (depth, heading)]
        else:
            start, end = offsets[token.map[0]], offsets[min(token.map[1], len(offsets) - 1)]
            yield from _stripped(text, tuple(heading for _, heading in path), start, end)


def _text_blocks(text: str, start: int, stop: int, page: int | None) -> Iterator[_Block]:
    for gap in [*_PARAGRAPH_GAP.finditer(text, start, stop), None]:
        end = gap.start() if gap else stop
        yield from _stripped(text, (), start, end, page)
        start = gap.end() if gap else end


def _stripped(text: str, headings: tuple[str, ...], start: int, end: int, page: int | None = None) -> Iterator[_Block]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield _Block(headings, start, end, page)


def _joined(text: str, blocks: list[_Block], max_tokens: int, count: TokenCounter) -> Iterator[_Block]:
    current: _Block | None = None
    for block in blocks:
        joins = current is not None and (current.headings, current.page) == (block.headings, block.page)
        if current and joins and _fits(text, current.start, block.end, max_tokens, count):
            current = replace(current, end=block.end)
            continue
        if current:
            yield current
        current = block
    if current:
        yield current


def _pieces(
    text: str, start: int, end: int, max_tokens: int, overlap_tokens: int, count: TokenCounter
) -> Iterator[tuple[int, int]]:
    while not _fits(text, start, end, max_tokens, count):
        cut = _last_fitting(text, start, end, max_tokens, count)
        yield start, cut
        following = cut
        while following < end and text[following].isspace():
            following += 1
        back = _first_fitting(text, start, cut, overlap_tokens, count)
        # A piece must move on: an overlap that reaches back to its own start would repeat for ever.
        start = back if start < back < cut else following
    if start < end:
        yield start, end


def _fits(text: str, start: int, end: int, max_tokens: int, count: TokenCounter) -> bool:
    window = max_tokens * MAX_TOKEN_CHARS
    return end - start <= window and count(text[start:end]) <= max_tokens


def _last_fitting(text: str, start: int, end: int, max_tokens: int, count: TokenCounter) -> int:
    """Return the best place to end a piece that starts at `start`."""
    low, high = start + 1, min(end, start + max_tokens * MAX_TOKEN_CHARS)
    while low < high:  # the longest prefix that fits, by bisection
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(text[start:middle]) <= max_tokens else (low, middle - 1)
    for pattern in (r"[.!?](?=\s)", r"(?=\n)", r"(?=\s)"):
        ends = [m.end() for m in re.finditer(pattern, text[start:low]) if m.end() > (low - start) // 2]
        if ends:
            return start + ends[-1]
    return low


def _first_fitting(text: str, start: int, end: int, max_tokens: int, count: TokenCounter) -> int:
    """Return the earliest sentence or word start whose text up to `end` has at most `max_tokens` tokens."""
    begin = max(start, end - max_tokens * MAX_TOKEN_CHARS)
    for pattern in (r"(?<=[.!?])\s+|\n+", r"\s+"):
        starts = [begin + gap.end() for gap in re.finditer(pattern, text[begin:end]) if begin + gap.end() < end]
        fitting = bisect_left(starts, True, key=lambda place: count(text[place:end]) <= max_tokens)
        if fitting < len(starts):
            return starts[fitting]
    return end
