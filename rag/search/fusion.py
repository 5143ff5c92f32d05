"""Fusion: one ranking out of several, without what is nearly the same."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from rapidfuzz import fuzz

RANK_CONSTANT = 60
NEARLY_SAME = 95.0


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


def without_near_duplicates(ranking: Sequence[int], k: int, text_of: Callable[[int], str]) -> list[int]:
    """Return the first `k` items, passing over those whose text is nearly that of a better one.

    Args:
        ranking: items, best first.
        k: at least 1.
        text_of: returns the text of an item.
    """
    kept: list[tuple[int, str, list[str]]] = []
    for item in ranking:
        text = " ".join(text_of(item).lower().split())
        numbers = re.findall(r"\d+", text)  # rows of a table may differ in nothing else
        alike = (other for _, other, its in kept if its == numbers)
        if not any(fuzz.ratio(text, other, score_cutoff=NEARLY_SAME) for other in alike):
            kept.append((item, text, numbers))
        if len(kept) == k:
            break
    return [item for item, _, _ in kept]
