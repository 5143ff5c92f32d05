"""Blocks: what a text consists of, in order: headings, paragraphs, tables and code, each with its place."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from markdown_it import MarkdownIt

SOFT_HYPHEN = "\u00ad"
"""Where a word may be parted at the end of a line; no part of it."""
_PARAGRAPH_GAP = re.compile(r"\n\s*\n")
_WORD = re.compile(r"\w")
_UNDERLINED = re.compile(
    r"(?:^(?P<over>([=\-`:'\"~^_*+#<>.])\2{2,})[ \t]*\n)?^(?P<title>[^\n]+)\n"
    r"(?P<line>(?P<sign>[=\-`:'\"~^_*+#<>.])(?P=sign){2,})[ \t]*$",
    re.MULTILINE,
)
_LINE = re.compile(r"[^\n]*\S[^\n]*")
_RULE = re.compile(r"\W*")
_INDENT = re.compile(r"[ \t]*")


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a text, without white space around it."""

    start: int
    end: int
    """Character span."""
    kind: Literal["text", "table", "code", "heading"] = "text"
    """A table's rows are lines, the first of them its header."""
    level: int = 0
    """Of a heading, from 1."""
    heading: str = ""
    """What a heading says, without its marks."""
    page: int | None = None
    """From 1, where the text has pages."""


def plain_blocks(text: str, page_starts: Sequence[int] = ()) -> list[Block]:
    """Return the paragraphs of a text in which no character means anything but itself.

    Args:
        text: the whole text.
        page_starts: where its pages begin, the first at 0; empty without pages.
    """
    pages = itertools.pairwise((*page_starts, len(text))) if page_starts else [(0, len(text))]
    found: list[Block] = []
    for number, (start, stop) in enumerate(pages, 1):
        for gap in [*_PARAGRAPH_GAP.finditer(text, start, stop), None]:
            end = gap.start() if gap else stop
            found += _stripped(text, start, end, page=number if page_starts else None)
            start = gap.end() if gap else end
    return found


def rst_blocks(text: str) -> list[Block]:
    """Return the headings of reStructuredText, and between them what stands there, as plain paragraphs.

    A heading is a line with a line of one sign below it, at least as long, or with such lines below and above it; how
    deep it is follows from the order in which the signs are first used. Directives and roles stay text: none is lost.
    """
    levels: dict[str, int] = {}
    found, start = list[Block](), 0
    for title in _UNDERLINED.finditer(text):
        sign, words = title["sign"], title["title"].strip()
        if (
            not _WORD.search(words)
            or len(title["line"]) < len(words)
            or (title["over"] and title["over"].strip()[0] != sign)
        ):
            continue
        level = levels.setdefault(sign + sign * bool(title["over"]), len(levels) + 1)
        found += _moved(text, start, title.start())
        found += [Block(b.start, title.end(), "heading", level, words) for b in _stripped(text, *title.span())]
        start = title.end()
    return [*found, *_moved(text, start, len(text))]


def _moved(text: str, start: int, end: int) -> Iterator[Block]:
    """Yield the paragraphs between two places."""
    for block in plain_blocks(text[start:end]):
        yield Block(block.start + start, block.end + start)


def markdown_blocks(text: str) -> list[Block]:
    """Return the blocks of Markdown (CommonMark with tables); lines that Markdown does not show are paragraphs, too."""
    offsets = [0]
    for line in text.split("\n"):
        offsets.append(offsets[-1] + len(line) + 1)
    offsets[-1] = len(text)
    found: list[Block] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for index, token in enumerate(tokens):
        if token.level != 0 or token.map is None or token.nesting == -1:
            continue
        start, end = offsets[token.map[0]], offsets[min(token.map[1], len(offsets) - 1)]
        kind: Literal["text", "table", "code"] = {"table_open": "table", "fence": "code", "code_block": "code"}.get(  # type: ignore[assignment]
            token.type, "text"
        )
        if token.type == "heading_open":
            heading = " ".join(tokens[index + 1].content.split())
            for block in _stripped(text, start, end):
                found.append(Block(block.start, block.end, "heading", int(token.tag[1:]), heading))
        elif token.type != "hr":
            found += _stripped(text, start, end, kind)
    return sorted([*found, *_uncovered(text, found)], key=lambda block: block.start)


def _uncovered(text: str, found: Sequence[Block]) -> Iterator[Block]:
    """Yield lines with words that are in no block, such as definitions of links."""
    gaps = zip([0, *(block.end for block in found)], [*(block.start for block in found), len(text)], strict=True)
    for start, end in gaps:
        for line in _LINE.finditer(text, start, max(start, end)):
            if not _RULE.fullmatch(line[0]):
                yield from _stripped(text, *line.span())


def _stripped(
    text: str, start: int, end: int, kind: Literal["text", "table", "code"] = "text", page: int | None = None
) -> Iterator[Block]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield Block(start, end, kind, page=page)


class TextBuilder:
    """Puts a text together out of blocks, with an empty line between them."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._parts: list[str] = []
        self._length = 0
        self.blocks: list[Block] = []

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._parts)

    def add(
        self,
        text: str,
        kind: Literal["text", "table", "code", "heading"] = "text",
        level: int = 0,
        page: int | None = None,
    ) -> None:
        """Add a block; one without words is left out, the indentation of code's first line stays.

        Args:
            text: what it says; soft hyphens are left out.
            kind: what it is.
            level: how deep a heading is, from 1; 0 of anything else.
            page: number of its page, from 1; None without pages.
        """
        text = text.replace(SOFT_HYPHEN, "")
        text = text.strip("\n").rstrip() if kind == "code" else text.strip()
        if not text.strip():
            return
        if self._parts:
            self._write("\n\n")
        start = self._length + (len(_INDENT.match(text)[0]) if kind == "code" else 0)  # type: ignore[index]
        heading = " ".join(text.split()) if kind == "heading" else ""
        self._write(text)
        self.blocks.append(Block(start, self._length, kind, level, heading, page))

    def _write(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)
