"""Query and SearchResult: what is asked of an index, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rag.documents.chunking import Chunk
from rag.search.filters import Filters

Mode = Literal["dense", "lexical", "hybrid"]
DENSE_WEIGHT = 0.8
"""Of `hybrid`, where nothing else is said: the best on 28 natural questions to the documentation of KubeRay."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of an index."""

    question: str
    k: int = 4
    mode: Mode = "hybrid"
    """`dense` ranks by meaning, `lexical` by words, `hybrid` by both."""
    filters: Filters | None = None
    judged: str | None = None
    """The part of the question that scores are of, where that is not the whole: of a chat the last turn, since what was
    said before would lift the score of what has nothing to do with it."""
    dense_weight: float = DENSE_WEIGHT
    """Weight of the cosine in `hybrid`, from 0 to 1; the rest is BM25's."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found."""

    chunk: Chunk
    row: int
    """Of the chunk in its snapshot."""
    score: float
    """How well it answers, from 0 to 1, in every mode: the cosine of question and chunk, 0 where that is negative; or,
    with a reranker, its judgement."""
    same: tuple[Chunk, ...] = ()
    """Chunks of the same text elsewhere."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits, best first, and what finding them took."""

    hits: list[Hit]
    timings_ms: dict[str, float] = field(default_factory=dict)
    question_parts: int = 1
    """How many parts the question was embedded in; the best one counts for each chunk."""
    coverage: float = 0.0
    """Share of the question's words that the best of the hits holds, from 0 to 1; a word counts the more, the fewer
    texts of the index hold it."""


def merge(found: Sequence[SearchResult], k: int) -> SearchResult:
    """Return the best hits of several searches, and their times together."""
    rankings = [one.hits for one in found if one.hits]
    hits = rankings[0] if len(rankings) == 1 else [hit for hits in rankings for hit in hits]
    if len(rankings) > 1:  # of several, only scores can be compared
        hits.sort(key=lambda hit: -hit.score)
    keys = dict.fromkeys(key for one in found for key in one.timings_ms)
    timings = {key: round(sum(one.timings_ms.get(key, 0.0) for one in found), 2) for key in keys}
    parts, coverage = (max(getattr(one, name) for one in found) for name in ("question_parts", "coverage"))
    return SearchResult(hits[:k], timings, parts, coverage)
