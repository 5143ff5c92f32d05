"""Evaluation: how well an index finds what answers questions, measured against labelled questions."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from llama_platform.errors import InputError
from rag.documents.blocks import plain_blocks
from rag.documents.document import Document
from rag.search.query import Hit, Mode

MODES: tuple[Mode, ...] = get_args(Mode)
LEAST_SHARED = 0.5


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question, and what answers it: a document, or a text."""

    question: str
    document: str | None = None
    text: str | None = None

    def answered_by(self, hit: Hit) -> bool:
        """Return whether a chunk is of the document, or holds the text, or at least half of it."""
        if self.document is not None:
            return hit.chunk.document == self.document
        wanted, found = _words(self.text or ""), _words(hit.chunk.text)
        if " ".join(wanted) in " ".join(found):
            return True
        return len(wanted) > 0 and _shared(wanted, found) >= LEAST_SHARED


@dataclass(frozen=True, slots=True)
class Questions:
    """Labelled questions, and the texts that they are about where the file holds these."""

    questions: list[LabelledQuestion]
    documents: list[Document]


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over questions; of each, only the first chunk that answers counts."""

    recall: dict[int, float]
    """By k: the share of questions with an answering chunk among the first k."""
    mrr: float
    """Mean of 1 / rank of the first answering chunk, within the largest k."""
    ndcg: float
    """Mean of 1 / log2(1 + rank), which is the nDCG where one chunk is relevant (Järvelin and Kekäläinen, 2002)."""


def read_questions(path: Path) -> Questions:
    """Read SQuAD-form JSON, or JSON lines of `question` with `document` or `text`.

    Raises:
        InputError: the file is neither, with the line.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    try:
        whole = json.loads(content)
    except ValueError:
        whole = None
    if isinstance(whole, dict) and "data" in whole:
        found = _squad(path, whole)
    else:
        found = Questions([_line(path, number, line) for number, line in _lines(content)], [])
    if not found.questions:
        raise InputError(f"{path}: no questions")
    return found


def quality(ranks: Sequence[int | None], cutoffs: Sequence[int]) -> Quality:
    """Return the measures of ranks.

    Args:
        ranks: rank of the first answering chunk of each question, from 1; None where none was found.
        cutoffs: the k of recall@k, ascending; MRR and nDCG count ranks up to the last.
    """
    within = [rank for rank in ranks if rank is not None and rank <= cutoffs[-1]]
    return Quality(
        recall={k: sum(rank <= k for rank in within) / len(ranks) for k in cutoffs},
        mrr=sum(1 / rank for rank in within) / len(ranks),
        ndcg=sum(1 / math.log2(1 + rank) for rank in within) / len(ranks),
    )


def evaluate(
    questions: Sequence[LabelledQuestion],
    search: Callable[[str, Mode], Sequence[Hit]],
    cutoffs: Sequence[int],
    modes: Sequence[Mode] = MODES,
) -> dict[Mode, Quality]:
    """Return the quality of each mode.

    Args:
        questions: with what answers them.
        search: returns hits of a question in a mode, best first, at least as many as the last cutoff.
        cutoffs: see `quality`.
        modes: those that are measured.
    """
    ranks = {mode: [_rank(asked, search(asked.question, mode)) for asked in questions] for mode in modes}
    return {mode: quality(found, cutoffs) for mode, found in ranks.items()}


def _rank(asked: LabelledQuestion, hits: Sequence[Hit]) -> int | None:
    return next((rank for rank, hit in enumerate(hits, 1) if asked.answered_by(hit)), None)


def _squad(path: Path, whole: dict[str, Any]) -> Questions:
    questions, documents = [], []
    try:
        for article in whole["data"]:
            for number, paragraph in enumerate(article["paragraphs"]):
                name = f"{article.get('title') or 'untitled'}#{number}".replace("/", "_")
                text = paragraph["context"]
                documents.append(Document(name, text, "", blocks=tuple(plain_blocks(text))))
                questions += [
                    LabelledQuestion(asked["question"], document=name)
                    for asked in paragraph["qas"]
                    if not asked.get("is_impossible")
                ]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not in the form of SQuAD: {error!r} is missing or of another kind") from error
    return Questions(questions, documents)


def _lines(content: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(content.split("\n"), 1) if line.strip())


def _line(path: Path, number: int, line: str) -> LabelledQuestion:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}:{number}: not valid JSON: {error}") from error
    known = {key: row.get(key) for key in ("question", "document", "text")} if isinstance(row, dict) else {}
    texts = {key: value for key, value in known.items() if isinstance(value, str) and value.strip()}
    if "question" not in texts or len(texts) < 2:
        raise InputError(f"{path}:{number}: needs 'question', and 'document' or 'text' that answers it")
    return LabelledQuestion(**texts)


def _words(text: str) -> list[str]:
    return text.lower().split()


def _shared(wanted: list[str], found: list[str]) -> float:
    """Return the share of runs of three words of one text that occur in the other."""
    runs = [tuple(wanted[i : i + 3]) for i in range(max(1, len(wanted) - 2))]
    there = {tuple(found[i : i + 3]) for i in range(max(1, len(found) - 2))}
    return sum(run in there for run in runs) / len(runs)
