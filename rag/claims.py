"""Claims: the sentences of an answer, each held against the sources that it was written from.

A sentence is supported where a passage of one source holds its words and nothing in it contradicts that passage: no
number or name that the source does not hold, and no negation more or less.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rag.citations import sentences
from rag.documents.chunking import Chunk
from rag.lexical_index import terms

SUPPORTED = 0.7
"""Score from which a claim counts as supported. Of sentences made of documents (`make bench-answers`), 1.9 % of the
wrong ones that quote reach it and 3 % of those in other words; none and 1.8 % of the true ones do not."""
PASSAGE_SENTENCES = 3
"""Sentences in a row that one sentence of an answer may sum up."""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_DIGITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMERALS = {word: str(value) for value, word in enumerate(_DIGITS)}
_NUMERALS |= {word: str(10 * value) for value, word in enumerate(_TENS, 2)}
_NAME = re.compile(r"\b(?:[A-Z][\w-]*[A-Za-z\d]|[a-z]+[A-Z\d_]\w*)\b")
_BEGINS = re.compile(r"(?:\A\W*|[.:!?*(>|\"“]\s*)\Z")
"""What stands before a word that has a capital letter since it begins something."""
_NEGATION = re.compile(r"\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot)\b|n['’]t\b", re.IGNORECASE)
NEARLY = 0.08
"""Share of a sentence's words by which a shorter passage may hold less than a longer one and count all the same."""
NEGATION_CHARS = 60
CONTRADICTED = 0.25
"""Most that a sentence scores that contradicts its passage."""
OPENING_WORDS = frozenset("according accord document text say short summary source answer state".split())
"""Stems of words that say where something stands, and not what."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of an answer, judged."""

    text: str
    """Without citations."""
    span: tuple[int, int]
    """Characters of the answer."""
    supported: bool
    score: float
    """From 0 to 1, how far a source says it."""
    source: int | None
    """Number of that source, from 1; None where no source says any of it."""


def weight(text: str) -> int:
    """Return how many words say something: stop words and words about where it is said do not count."""
    return len(_words(text))


class Passages:
    """What sources say, prepared for many claims."""

    def __init__(self, sources: Sequence[Chunk]) -> None:
        """Read sources, numbered from 1."""
        self._sources = [_Source(chunk) for chunk in sources]

    def judge(self, claim: str, among: Sequence[int] = ()) -> tuple[float, int | None]:
        """Return (score from 0 to 1, number of the source that says most of it).

        Args:
            claim: a sentence without citations.
            among: sources that it may be of, from 1; all of them where there are none.
        """
        said = _Said(claim)
        if not said.words:
            return 1.0, None  # it says nothing
        numbers = among or range(1, len(self._sources) + 1)
        scored = [(self._sources[number - 1].score(said), -number) for number in numbers]
        score, number = max(scored, default=(0.0, 0))
        return score, -number if score > 0 else None


class _Said:
    """What a sentence says."""

    def __init__(self, text: str) -> None:
        self.words = list(dict.fromkeys(_words(text)))
        self.numbers = _numbers(text)
        self.names = _names(text)
        self.negated = _negated(text)


class _Source:
    """Sentences of a chunk."""

    def __init__(self, chunk: Chunk) -> None:
        texts = [chunk.text[start:end] for start, end in sentences(chunk.text)] or [chunk.text]
        head = f"{chunk.title} {chunk.heading}"
        *words, about = terms([*texts, head])
        self._words, self._about = [set(found) for found in words], set(about)
        self._numbers, self._negated = list(map(_numbers, texts)), list(map(_negated, texts))
        whole = f"{head}\n{chunk.text}"
        self._all_numbers, self._letters = _numbers(whole), whole.lower()

    def score(self, said: _Said) -> float:
        """Return how far a passage says it: of those that hold nearly most of its words, the shortest counts."""
        bits = {word: 1 << place for place, word in enumerate(said.words)}
        about = sum(bit for word, bit in bits.items() if word in self._about)
        each = [sum(bits[word] for word in bits.keys() & words) for words in self._words]
        held: list[tuple[float, int, int]] = []
        for start in range(len(each)):
            found = about
            for end in range(start, min(start + PASSAGE_SENTENCES, len(each))):
                found |= each[end]
                held.append((found.bit_count() / len(bits), start, end))
        most = max(held)[0]
        near = [one for one in held if one[0] >= most - NEARLY]
        length = min(end - start for _, start, end in near)
        shortest = [one for one in near if one[2] - one[1] == length]
        return max(min(share, CONTRADICTED) if self._contradicts(said, a, b) else share for share, a, b in shortest)

    def _contradicts(self, said: _Said, start: int, end: int) -> bool:
        numbers = set().union(*self._numbers[start : end + 1])
        if said.numbers - (numbers or self._all_numbers):
            return True
        if any(name.lower() not in self._letters for name in said.names):
            return True
        words = set().union(*self._words[start : end + 1])
        negated = [pair for of in self._negated[start : end + 1] for pair in of]
        here, there = ({word for pair in pairs for word in pair} for pairs in (said.negated, negated))
        if any(pair & words and not pair & there for pair in said.negated):
            return True
        own = set(said.words)
        return any(pair & own and not pair & here for pair in negated)


def _words(text: str) -> list[str]:
    return [word for word in terms([text])[0] if word not in OPENING_WORDS]


def _negated(text: str) -> list[frozenset[str]]:
    """Return for each negation of a text the two words that follow it, stemmed."""
    behind = [text[found.end() : found.end() + NEGATION_CHARS] for found in _NEGATION.finditer(text)]
    return [frozenset(found[:2]) for found in terms(behind)] if behind else []


def _numbers(text: str) -> set[str]:
    """Return the numbers of a text, in digits, without zeros that say nothing."""
    written = [number.replace(",", "") for number in _NUMBER.findall(text)]
    found = {number.rstrip("0").rstrip(".") if "." in number else number for number in written}
    return found | {_NUMERALS[word] for word in re.findall(r"[a-z]+", text.lower()) if word in _NUMERALS}


def _names(text: str) -> set[str]:
    """Return words that name something: with a capital letter within a sentence, or of mixed letters."""
    return {found[0] for found in _NAME.finditer(text) if not _BEGINS.search(text[: found.start()])}
