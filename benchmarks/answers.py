"""Answers from documents: whether wrong claims are told from true ones, beside simpler measures of the same.

    make bench-answers

Sentences of the installed packages' descriptions, as they are and in other words, and the same with another number,
name or negation, or of another document, are held against the chunks that a writer would have been shown. The
threshold is not chosen here: it is the one that is served.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from rapidfuzz import fuzz

from benchmarks.answers_corpus import Case, cases
from benchmarks.engine import say
from benchmarks.outcome import Measure, publish
from rag.claims import SUPPORTED, Passages
from rag.lexical_index import terms

Score = Callable[[Case], float]


def main() -> int:
    """Run the benchmark and print its outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    arguments = parser.parse_args()
    # Another sample than the one that the threshold was chosen on.
    measures = measure_grounding(cases(arguments.cases, seed=1))
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
