"""Fusion: one ranking out of several, in which equal texts are one."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

RANK_CONSTANT = 60
NEARLY_SAME = 95.0
"""Percent of their letters that two texts have in common."""
PLACES_BACK = 1.5


def reciprocal_rank_fusion(rankings: Iterable[Sequence[int]], constant: int = RANK_CONSTANT) -> list[int]:
    """Return all items, best first: each scores the sum of 1 / (constant + rank) over the rankings that hold it.

    Cormack, Clarke and Büttcher, «Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods»,
    SIGIR 2009.

    Args:
        rankings: items, best first.
        constant: damps the head of each ranking.
    """
    scores: dict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, item in enumerate(ranking, 1):
            scores[item] += 1 / (constant + rank)
    return sorted(scores, key=lambda item: (-scores[item], item))


@dataclass(frozen=True, slots=True)
class Folded:
    """An item of a ranking, and those behind it whose texts are equal to its own."""

    item: int
    same: tuple[int, ...] = ()


def fold(ranking: Sequence[int], k: int, text_of: Callable[[int], str]) -> list[Folded]:
    """Return the first `k` texts of a ranking; what is nearly a copy of a better one stands further back.

    Texts that are equal but for white space are one, with all their places. Nothing else is left out: two texts may
    have all but one word in common and say the opposite. A text loses a place and a half for each better one that it
    is nearly a copy of.

    Args:
        ranking: items, best first.
        k: at least 1.
        text_of: returns the text of an item.
    """
    seen: dict[str, int] = {}
    items: list[tuple[float, int, list[int]]] = []
    texts: list[str] = []
    for item in ranking:
        text = " ".join(text_of(item).split())
        if (place := seen.setdefault(text, len(items))) < len(items):
            items[place][2].append(item)
            continue
        lowered = text.lower()
        # Behind three times as many as are wanted, no text comes to the front any more.
        near = 0
        if len(items) < 3 * k:
            near = sum(fuzz.ratio(lowered, other, score_cutoff=NEARLY_SAME) > 0 for other in texts)
        texts.append(lowered)
        items.append((len(items) + PLACES_BACK * near, item, []))
    best = sorted(items, key=lambda found: found[0])[:k]
    return [Folded(item, tuple(same)) for _, item, same in best]
