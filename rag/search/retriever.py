"""Retriever: the chunks of a snapshot that answer a question best."""

import time

import numpy as np

from llama_platform.errors import InputError
from rag.embedding import Vectors
from rag.search.fusion import fold, weighted_fusion
from rag.search.query import Hit, Query, SearchResult
from rag.search.reranking import Reranker
from rag.snapshot import Snapshot

LEAST_CANDIDATES = 50
"""Of each ranking, before they are fused."""
RERANKED = 20


class Retriever:
    """Searches one snapshot."""

    def __init__(self, snapshot: Snapshot, embedding: tuple[str, str], reranker: Reranker | None = None) -> None:
        """Use a snapshot.

        Args:
            snapshot: index to search.
            embedding: name and fingerprint of the model that embeds questions.
            reranker: judges the best of what was found, where there is one.

        Raises:
            InputError: the snapshot was made with another embedding model.
        """
        made_by = (snapshot.facts.embedding_model, snapshot.facts.embedding_fingerprint)
        if made_by[1] != embedding[1]:
            labels = [f"'{name}' ({fingerprint[:8]})" for name, fingerprint in (made_by, embedding)]
            raise InputError(
                f"the index was made with the embedding model {labels[0]}, this retriever uses {labels[1]}: "
                "build the index again or change the retriever"
            )
        self._snapshot, self._reranker = snapshot, reranker

    def search(self, query: Query, vector: Vectors, judged: Vectors | None = None) -> SearchResult:
        """Return the best chunks, best first; fewer where fewer are allowed or fit.

        Args:
            query: what is asked.
            vector: float32 [dimensions] or [parts, dimensions], the question's, or those of its parts.
            judged: the same of what scores are of; None for the question.
        """
        vectors = np.atleast_2d(vector)
        scored = vectors if judged is None else np.atleast_2d(judged)
        begun = time.perf_counter()
        snapshot = self._snapshot
        allowed = query.filters.allowed(snapshot.chunks) if query.filters else None
        if not len(snapshot.chunks) or (allowed is not None and not allowed.any()):
            return SearchResult([], {"search_ms": _since(begun)}, len(vectors))
        ranking = self._rank(query, vectors, allowed)
        searched = time.perf_counter()
        timings = {"search_ms": round((searched - begun) * 1000, 2)}
        texts, dates = snapshot.chunks.column("text"), snapshot.chunks.column("date")

        def date_of(row: int) -> str:
            return dates[row].as_py() or ""

        if self._reranker is None:
            found = fold(ranking, query.k, lambda row: str(texts[row]), date_of)
            rows = np.array([one.item for one in found], dtype=np.int64)
            scores = self._similarities(scored, rows).tolist()
        else:
            # A judge needs no second opinion on what is the same.
            candidates = fold(ranking, max(RERANKED, query.k), lambda row: str(texts[row]), date_of)
            chunks = [snapshot.chunk(one.item) for one in candidates]
            opinions = self._reranker.scores(query.judged or query.question, [f"{c.place()}\n{c.text}" for c in chunks])
            best = sorted(zip(opinions, candidates, strict=True), key=lambda pair: (-pair[0], pair[1].item))[: query.k]
            found, scores = [one for _, one in best], [score for score, _ in best]
            timings["rerank_ms"] = _since(searched)
        hits = [
            Hit(snapshot.chunk(one.item), one.item, _in_range(score), tuple(map(snapshot.chunk, one.same)))
            for one, score in zip(found, scores, strict=True)
        ]
        asked = query.judged or query.question
        coverage = snapshot.lexical.coverage(asked, [hit.chunk.embedded_text() for hit in hits])
        return SearchResult(hits, timings, len(vectors), coverage)

    def _similarities(self, vectors: Vectors, rows: "np.ndarray") -> Vectors:
        """Return float32 [len(rows)], the cosine of each chunk and the part of the question that is nearest to it."""
        best: Vectors = np.max([self._snapshot.dense.similarities(vector, rows) for vector in vectors], axis=0)
        return best

    def _rank(self, query: Query, vectors: Vectors, allowed: "np.ndarray | None") -> list[int]:
        count, snapshot = max(LEAST_CANDIDATES, 4 * query.k), self._snapshot
        rows = np.empty(0, dtype=np.int64)
        if query.mode != "lexical":
            rows = np.unique(np.concatenate([found for _, found in snapshot.dense.search(vectors, count, allowed)]))
        if query.mode == "dense":
            near = self._similarities(vectors, rows)
            order: list[int] = rows[np.lexsort((rows, -near))][:count].tolist()
            return order
        by_words = snapshot.lexical.search(query.question, count, allowed)
        if query.mode == "lexical":
            return [int(row) for row in by_words]
        rows = np.union1d(rows, by_words)
        scores = snapshot.lexical.scores(query.question)
        words = np.zeros(len(rows), dtype=np.float32) if scores is None else scores[rows]
        return weighted_fusion(rows, self._similarities(vectors, rows), words, query.dense_weight)


def _since(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1000, 2)


def _in_range(score: float) -> float:
    return round(min(max(score, 0.0), 1.0), 4)
