"""Fusion: one ranking out of several, in which equal texts are one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rapidfuzz import fuzz

NEARLY_SAME = 95.0
"""Percent of their letters that two texts have in common."""
PLACES_BACK = 1.5


def weighted_fusion(
    rows: npt.NDArray[np.int64], near: npt.NDArray[np.float32], words: npt.NDArray[np.float32], weight: float
) -> list[int]:
    """Return rows, best first by `weight` × cosine + (1 - `weight`) × BM25 as a share of the question's best.

    A convex combination of scores, which Bruch, Gai and Ingber («An Analysis of Fusion Functions for Hybrid
    Retrieval», ACM TOIS, 2023) found better than reciprocal ranks, and easily tuned on few questions.

    Args:
        rows: int64 [candidates].
        near: float32 [candidates], cosine of the question and each; below 0 counts as 0.
        words: float32 [candidates], BM25 scores.
        weight: weight of the cosine, from 0 to 1.
    """
    best = float(words.max(initial=0)) or 1.0
    scores = weight * np.maximum(near, 0) + (1 - weight) * words / best
    order: list[int] = rows[np.lexsort((rows, -scores))].tolist()
    return order


@dataclass(frozen=True, slots=True)
class Folded:
    """An item of a ranking, and those behind it whose texts are equal to its own."""

    item: int
    same: tuple[int, ...] = ()


def fold(
    ranking: Sequence[int], k: int, text_of: Callable[[int], str], date_of: Callable[[int], str] = lambda item: ""
) -> list[Folded]:
    """Return the first `k` texts of a ranking; what is nearly a copy of a better one stands further back.

    Texts that are equal but for white space are one, with all their places. Nothing else is left out: two texts may
    have all but one word in common and say the opposite. A text loses a place and a half for each better one that it
    is nearly a copy of; of near copies, the one of the latest date stands first.

    Args:
        ranking: items, best first.
        k: at least 1.
        text_of: returns the text of an item.
        date_of: returns the date of an item as `YYYY-MM-DD`; empty where there is none.
    """
    first: dict[str, int] = {}
    items: list[int] = []
    same: list[list[int]] = []
    lowered: list[str] = []
    places: list[float] = []
    groups: dict[int, list[int]] = {}
    group_of: list[int] = []
    for item in ranking:
        text = " ".join(text_of(item).split())
        if (known := first.setdefault(text, len(items))) < len(items):
            same[known].append(item)
            continue
        near: list[int] = []
        if len(items) < 3 * k:  # behind three times as many as are wanted, no text comes to the front any more
            alike = (fuzz.ratio(text.lower(), other, score_cutoff=NEARLY_SAME) > 0 for other in lowered)
            near = [number for number, is_near in enumerate(alike) if is_near]
        group = group_of[near[0]] if near else len(items)
        groups.setdefault(group, []).append(len(items))
        group_of.append(group)
        places.append(len(items) + PLACES_BACK * len(near))
        lowered.append(text.lower())
        items.append(item)
        same.append([])
    order: list[tuple[float, int]] = []
    for members in groups.values():
        by_date = sorted(members, key=lambda number: date_of(items[number]), reverse=True)
        order += zip(sorted(places[number] for number in members), by_date, strict=True)
    return [Folded(items[number], tuple(same[number])) for _, number in sorted(order)[:k]]
