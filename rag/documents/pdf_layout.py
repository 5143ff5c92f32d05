"""Layout of PDF pages: columns, rows of cells, and what stands on every page."""

import itertools
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PARTED = re.compile(r"(?<=[^\W\d_])-\n(?=[^\W\d_A-Z])")
"""A hyphen at the end of a line, between letters: `AB-12-` and `34` are no such word."""
_SAME_ROW = 0.6
"""Share of the lower of two heights that lines of one row have in common."""
_WIDE_GAP = 1.2
"""Between words of two columns, in heights of a line."""
_MIDDLE = (0.3, 0.7)
"""Where between two columns may be, as shares of the page's width."""
_LEAST_LINES = 6
"""Lines of a column; fewer side by side are cells."""
_LEAST_WIDTH = 0.25
"""Median width of a column's lines, as a share of the page's width; narrower ones are cells, too."""
_MOST_ACROSS = 0.25
"""Share of lines that reach over both columns, such as titles and captions."""
_EDGE = 2
"""Lines at the top and at the bottom of a page that may be running heads."""
_RUNNING_CHARS, _RUNNING_PAGES, _RUNNING_SHARE = 120, 3, 0.4
"""A running head is at most so long, on at least so many pages, and on such a share: left and right ones differ."""
_HAS_LETTER = re.compile(r"[^\W\d_]")
_PAGE_NUMBER = re.compile(r"[^\w#]{0,3}#(?: ?[/|–-] ?#)?[^\w#]{0,3}")
"""`12`, `- 12 -`, `12 / 40`: rows of a table have more numbers, or none of these signs around them on every page."""
_DIGITS = re.compile(r"\d+|\b[ivxlc]+\b")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a page."""

    text: str
    start: float
    end: float
    """Where it begins and ends across the page."""
    top: float
    bottom: float
    block: int
    """Number of the block that the library has put it into."""


def block_texts(page: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts of a page's blocks, column by column; lines side by side within a block are one row.

    Args:
        page: as pdftext's `dictionary_output` has it.
    """
    turned = page["rotation"] in (90, 270)
    lines = list(_lines(page, turned))
    for group in _in_order(lines, float(page["width"] or 0) if not turned else 0.0):
        yield _text(group)


def running_heads(pages: Sequence[Sequence[str]]) -> set[str]:
    """Return the lines at the top or bottom of many pages, without their numbers, as `without_numbers` has them.

    Args:
        pages: texts of the blocks of each page.
    """
    counts: Counter[str] = Counter()
    for blocks in pages:
        lines = [line for block in blocks for line in block.split("\n")]
        edges = {*lines[:_EDGE], *lines[-_EDGE:]}
        masked = {without_numbers(text) for text in edges if len(text) <= _RUNNING_CHARS}
        counts.update(text for text in masked if _HAS_LETTER.search(text) or _PAGE_NUMBER.fullmatch(text))
    filled = sum(bool(blocks) for blocks in pages)
    return {text for text, count in counts.items() if count >= max(_RUNNING_PAGES, _RUNNING_SHARE * filled)}


def without_running(blocks: Sequence[str], running: set[str]) -> list[str]:
    """Return a page's blocks without running heads at its top and bottom; all of one that has nothing else."""
    lines = [(number, line) for number, block in enumerate(blocks) for line in block.split("\n")]
    inner = range(_EDGE, len(lines) - _EDGE)
    kept = [line for place, line in enumerate(lines) if place in inner or without_numbers(line[1]) not in running]
    if not kept:
        return list(blocks)
    return ["\n".join(text for _, text in group) for _, group in itertools.groupby(kept, lambda line: line[0])]


def without_numbers(text: str) -> str:
    """Return a text with a sign for each number, Roman ones too, and single spaces."""
    return " ".join(_DIGITS.sub("#", text.lower()).split())


def _lines(page: Mapping[str, Any], turned: bool) -> Iterator[Line]:
    """Yield the lines of a page, parted where there is a wide gap: what stands there may be another column."""
    from pdftext.postprocessing import postprocess_text

    across, down = ((1, 3), (0, 2)) if turned else ((0, 2), (1, 3))
    for number, block in enumerate(page["blocks"]):
        for line in block["lines"]:
            top, bottom = (line["bbox"][side] for side in down)
            for spans in _parted(line["spans"], across, _WIDE_GAP * (bottom - top)):
                text = postprocess_text("".join(span["text"] for span in spans)).strip()
                ends = [span["bbox"][side] for span in spans for side in across]
                yield Line(text, min(ends), max(ends), top, bottom, number)


def _parted(spans: Sequence[Any], across: tuple[int, int], gap: float) -> Iterator[list[Any]]:
    """Yield spans that follow one another; those of white space belong to what stands before them."""
    group: list[Any] = []
    end = 0.0
    for span in spans:
        words = bool(span["text"].strip())
        if group and words and span["bbox"][across[0]] - end > gap:
            yield group
            group = []
        group.append(span)
        end = span["bbox"][across[1]] if words or len(group) == 1 else end
    if group:
        yield group


def _in_order(lines: Sequence[Line], width: float) -> Iterator[list[Line]]:
    """Yield the lines of each block in the order of reading."""
    between = _between_columns([line for line in lines if line.text], width)
    if between is None:
        yield from _by_block(lines)
        return
    left: list[Line] = []
    right: list[Line] = []
    for line in lines:
        if line.end <= between:
            left.append(line)
        elif line.start >= between:
            right.append(line)
    left, right = (sorted(column, key=lambda line: line.top) for column in (left, right))
    across = sorted((line for line in lines if line.start < between < line.end), key=lambda line: line.top)
    above = float("-inf")
    for top, group in [*_titles(across), (float("inf"), [])]:  # what reaches over both columns parts the page
        for column in (left, right):
            yield from _by_block([line for line in column if above <= line.top < top])
        yield from _by_block(group)
        above = top


def _between_columns(lines: Sequence[Line], width: float) -> float | None:
    """Return where a page's two columns of prose are parted; None where it has no two."""
    low, high = (share * width for share in _MIDDLE)
    ends = sorted({line.end for line in lines if low <= line.end <= high})
    best: tuple[int, float] | None = None
    for end in ends:
        place = end + 0.5
        across = sum(line.start < place < line.end for line in lines)
        if best is None or across < best[0]:
            best = across, place
    if best is None or best[0] > _MOST_ACROSS * len(lines):
        return None
    columns = [line for line in lines if line.end <= best[1]], [line for line in lines if line.start >= best[1]]
    for column in columns:
        if (
            len(column) < _LEAST_LINES
            or statistics.median(line.end - line.start for line in column) < _LEAST_WIDTH * width
        ):
            return None
    (top, bottom), (other_top, other_bottom) = (
        (min(line.top for line in column), max(line.bottom for line in column)) for column in columns
    )
    beside = min(bottom, other_bottom) - max(top, other_top)
    return best[1] if beside > 0.3 * min(bottom - top, other_bottom - other_top) else None


def _titles(across: Sequence[Line]) -> Iterator[tuple[float, list[Line]]]:
    """Yield (top, lines) of what reaches over both columns, lines of one block together."""
    for group in _by_block(across):
        yield min(line.top for line in group), group


def _by_block(lines: Sequence[Line]) -> Iterator[list[Line]]:
    group: list[Line] = []
    for line in lines:
        if group and group[-1].block != line.block:
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def _text(lines: Sequence[Line]) -> str:
    """Return the text of a block: lines side by side are one row, words parted at line ends are whole."""
    rows: list[str] = []
    last: Line | None = None
    for line in lines:
        if last is not None and _overlap(last, line) > _SAME_ROW:
            rows[-1] = f"{rows[-1]} {line.text}"
        else:
            rows.append(line.text)
        last = line
    return _PARTED.sub("", "\n".join(rows))


def _overlap(one: Line, other: Line) -> float:
    common = min(one.bottom, other.bottom) - max(one.top, other.top)
    return common / max(min(one.bottom - one.top, other.bottom - other.top), 1e-6)
