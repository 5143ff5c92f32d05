"""Answers from documents: whether wrong claims are told from true ones, beside simpler measures of the same.

    make bench-answers

Sentences of the installed packages' descriptions, as they are and in other words, and the same with another number,
name or negation, or of another document, are held against the chunks that a writer would have been shown. The
threshold is not chosen here: it is the one that is served. Questions whose subject was taken out of a sentence are
asked of all the chunks, and beside them the same with words of others, which nothing answers.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from rapidfuzz import fuzz

from benchmarks.answers_corpus import Asked, Case, cases, chunks, questions
from benchmarks.engine import say
from benchmarks.outcome import Measure, publish
from rag.claims import SUPPORTED, Passages
from rag.dense_index import IndexingConfig
from rag.embedding import SentenceTransformerEmbedder
from rag.embedding_model import EmbeddingConfig
from rag.lexical_index import terms
from rag.search.evaluation import MODES
from rag.search.query import Mode, Query
from rag.search.retriever import Retriever
from rag.snapshot import make_snapshot

Score = Callable[[Case], float]


def main() -> int:
    """Run the benchmark and print its outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    arguments = parser.parse_args()
    # Another sample than the one that the threshold was chosen on.
    measures = measure_grounding(cases(arguments.cases, seed=1))
    measures |= measure_questions(questions(arguments.cases // 2))
    publish("answers", measures, ["rapidfuzz", "bm25s"], [])
    return 0


def measure_grounding(labelled: Sequence[Case]) -> dict[str, Measure]:
    """Return how well claims are judged: areas under the ROC, and errors at the threshold that is served."""
    say(f"judging {len(labelled)} sentences …")
    ways: dict[str, Score] = {"ours": _judged, "words held": _words_held, "rapidfuzz": _alike}
    scores = {name: np.array([way(case) for case in labelled]) for name, way in ways.items()}
    right = np.array([case.supported for case in labelled])
    free = np.array([case.free for case in labelled])
    measures = {}
    for name, part in (("quoting", ~free), ("free", free)):
        areas = {way: area(found[part], right[part]) for way, found in scores.items()}
        peers = {way: value for way, value in areas.items() if way != "ours"}
        measures[f"roc_{name}"] = Measure(areas["ours"], 0.97, "higher", "area", areas["ours"], peers)
    passed = scores["ours"] >= SUPPORTED
    for name, part, aim in (("quoting", ~free, 0.05), ("free", free, 0.1)):
        wrong = float((~passed)[part & right].mean())
        measures[f"supported_marked_{name}"] = Measure(wrong, aim, "lower", "share", wrong, {})
    for name, part in (("all", free | ~free), ("quoting", ~free), ("free", free)):
        wrong = float(passed[part & ~right].mean())
        kinds = sorted({case.kind for case in labelled} - {"true"})
        by_kind = {
            kind: float(passed[part & np.array([case.kind == kind for case in labelled])].mean()) for kind in kinds
        }
        measures[f"unsupported_passed_{name}"] = Measure(wrong, 0.05, "lower", "share", wrong, by_kind)
    spent = []
    for case in labelled[:200]:
        begun = time.perf_counter()
        _judged(case)
        spent.append((time.perf_counter() - begun) * 1000)
    cost = statistics.median(spent)
    measures["claim_ms"] = Measure(cost, 5, "lower", "ms", cost, {})
    return measures


def measure_questions(asked: Sequence[Asked]) -> dict[str, Measure]:
    """Return how well questions that the texts answer are told from others, and how often the answer comes first."""
    say(f"asking {len(asked)} questions …")
    known = [chunk for of in chunks() for chunk in of]
    embedder = SentenceTransformerEmbedder(EmbeddingConfig())
    made = (embedder.name, embedder.fingerprint)
    vectors = embedder.embed([chunk.embedded_text() for chunk in known]).astype(np.float16)
    retriever = Retriever(make_snapshot(known, vectors, made, IndexingConfig(kind="flat")), made)
    right = np.array([one.chunk is not None for one in asked])
    covered, near = np.zeros(len(asked)), np.zeros(len(asked))
    first: dict[Mode, list[bool]] = {mode: [] for mode in MODES}
    for place, (one, vector) in enumerate(zip(asked, embedder.embed([one.question for one in asked]), strict=True)):
        for mode in MODES:
            found = retriever.search(Query(one.question, 4, mode), vector)
            if one.chunk is not None:
                first[mode].append(found.hits[0].chunk == one.chunk)
            if mode == "hybrid":
                covered[place], near[place] = found.coverage, max(hit.score for hit in found.hits)
    recall = {mode: statistics.mean(hits) for mode, hits in first.items()}
    others = {str(mode): value for mode, value in recall.items() if mode != "hybrid"}
    told = area(covered, right)
    return {
        "answerable_roc": Measure(told, 0.8, "higher", "area", told, {"cosine": area(near, right)}),
        "hybrid_recall_at_1": Measure(recall["hybrid"], 0.85, "higher", "share", recall["hybrid"], others),
    }


def area(scores: np.ndarray, right: np.ndarray) -> float:
    """Return the area under the ROC: how often a true case scores higher than a wrong one, ties counting half."""
    order = np.sort(scores[~right])
    below = np.searchsorted(order, scores[right], side="left")
    ties = np.searchsorted(order, scores[right], side="right") - below
    return float((below + ties / 2).mean() / len(order))


def _judged(case: Case) -> float:
    return Passages(case.sources).judge(case.text)[0]


def _words_held(case: Case) -> float:
    """Return the share of words that the best source holds, as `grounded` was counted before claims were judged."""
    (said,) = terms([case.text])
    held = [set(words) for words in terms([chunk.embedded_text() for chunk in case.sources])]
    return max(sum(word in words for word in said) for words in held) / max(1, len(said))


def _alike(case: Case) -> float:
    return max(fuzz.partial_token_set_ratio(case.text, chunk.text) for chunk in case.sources) / 100


if __name__ == "__main__":
    sys.exit(main())
