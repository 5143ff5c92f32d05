"""Grounding: how much of what an answer says stands in its sources."""

import re
from collections.abc import Sequence

from rag.citations import sentences
from rag.documents.chunking import Chunk
from rag.lexical_index import terms

_MARKER = re.compile(r"\[\s*(\d+(?:\s*,\s*\d+)*)\s*\]")


def grounded(answer: str, sources: Sequence[Chunk]) -> float:
    """Return from 0 to 1 which share of an answer's words its sources hold.

    Words are stemmed, without stop words. Each sentence is held against the one source that has most of it; of a
    sentence that cites, only against those. What says nothing at all is not grounded.

    Args:
        answer: its text, with citations such as `[1, 2]`.
        sources: numbered from 1.
    """
    said = [answer[start:end] for start, end in sentences(answer)]
    # A citation behind the full stop belongs to the sentence before it.
    pieces: list[str] = []
    for piece in said:
        if pieces and not _MARKER.sub("", piece).strip(" .,;"):
            pieces[-1] += piece
        else:
            pieces.append(piece)
    known = [set(found) for found in terms([chunk.embedded_text() for chunk in sources])] if sources else []
    words = terms([_MARKER.sub(" ", piece) for piece in pieces]) if pieces else []
    held = sum(
        max((sum(word in known[n] for word in of_piece) for n in _cited(piece, len(known))), default=0)
        for piece, of_piece in zip(pieces, words, strict=True)
    )
    return round(held / max(1, sum(map(len, words))), 4)


def _cited(piece: str, count: int) -> Sequence[int]:
    """Return the sources that a sentence cites, from 0; all of them where it cites none."""
    numbers = [int(n) - 1 for found in _MARKER.finditer(piece) for n in found[1].split(",")]
    return [n for n in numbers if 0 <= n < count] or range(count)
