"""Split: which chats are held out, and which of these resemble chats that are trained on."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence


def place_of(key: bytes, seed: int) -> float:
    """Return a chat's place in [0, 1): it depends on its text and the seed alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/".encode() + key).digest()[:7]) / 2**56


def split(places: Sequence[float], eval_fraction: float) -> list[bool]:
    """Return for every chat whether it is held out; both sides get one at least.

    Args:
        places: `place_of` each of at least two chats.
        eval_fraction: the range of places that is held out.
    """
    # Of very few chats the hash may choose none or all: then the lowest, or all but the highest, are held out.
    lowest = min(range(len(places)), key=places.__getitem__)
    highest = max(range(len(places)), key=places.__getitem__)
    held_out = [place < eval_fraction for place in places]
    held_out[lowest] = True
    held_out[highest] = False
    return held_out


def together(places: Sequence[float], answers: Sequence[Iterable[int]]) -> list[float]:
    """Return places with which chats that share an answer, directly or by way of others, are on one side.

    Args:
        places: `place_of` each chat.
        answers: digests of each chat's answers.
    """
    group = list(range(len(places)))

    def first(number: int) -> int:
        while group[number] != number:
            group[number] = number = group[group[number]]
        return number

    seen: dict[int, int] = {}
    for number, of_chat in enumerate(answers):
        for answer in of_chat:
            one, other = sorted((first(number), first(seen.setdefault(answer, number))))
            group[other] = one
    return [places[first(number)] for number in range(len(places))]


def evenly(keys: Sequence[bytes], bound: int) -> list[int]:
    """Return the numbers of at most `bound` items, in order: a sample of all of them, the same each time.

    The first ones would be of the first file alone.

    Args:
        keys: content of each item, which decides whether it is chosen.
        bound: how many at most.
    """
    chosen = sorted(range(len(keys)), key=lambda number: hashlib.sha256(keys[number]).digest())[:bound]
    return sorted(chosen)


def leaked(sides: Sequence[str | None], near: Sequence[tuple[int, int, float]]) -> Iterator[tuple[int, int, float]]:
    """Yield each held-out chat that resembles one that is trained on, once: (held out, trained on, similarity).

    Args:
        sides: `train` or `eval` by chat; only what it is at the call counts.
        near: pairs of chats that resemble each other, with their similarity.
    """
    closest: dict[int, tuple[int, float]] = {}
    for one, other, share in near:
        for held_out, trained in ((one, other), (other, one)):
            known = closest.get(held_out, (0, 0.0))[1]
            if sides[held_out] == "eval" and sides[trained] == "train" and share > known:
                closest[held_out] = (trained, share)
    yield from ((number, *found) for number, found in sorted(closest.items()))
