"""LexicalIndex: search by words, scored by BM25. The only user of bm25s."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import bm25s
import numpy as np
import numpy.typing as npt
import Stemmer
from bm25s.stopwords import STOPWORDS_EN

Scores = npt.NDArray[np.float32]
_SCRIPTS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese, which are written without spaces."""
_UNSPACED = re.compile(rf"[{_SCRIPTS}]+")
_LETTER = rf"(?:(?![{_SCRIPTS}])\w)"
_WORD = re.compile(rf"[{_SCRIPTS}]+|{_LETTER}+(?:[.,@:/\\'’+-]{_LETTER}+)*(?:\+\+|#(?!\w))?")
_PART = re.compile(r"\w+")
_COMMA_IN_NUMBER = re.compile(r"(?<=\d),(?=\d)")
_STEMMER = Stemmer.Stemmer("english")
_ARRAYS = ("data", "indices", "indptr")


class LexicalIndex:
    """BM25 (Lucene's variant) over the terms of texts; see `terms`."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[np.generic]], vocabulary: Mapping[str, int], size: int) -> None:
        """Use what `arrays` and `vocabulary` of another LexicalIndex said.

        Args:
            arrays: scores by term, as a compressed sparse column matrix: `data`, `indices`, `indptr`.
            vocabulary: column by term.
            size: number of texts.
        """
        self.arrays, self.vocabulary, self._size = dict(arrays), dict(vocabulary), size
        self._bm25 = bm25s.BM25()
        self._bm25.scores = {**self.arrays, "num_docs": size}
        self._bm25.vocab_dict = self.vocabulary
        self._bm25.nonoccurrence_array = None  # of BM25+ and BM25L only
        self._bm25.unique_token_ids_set = set(self.vocabulary.values())

    @classmethod
    def build(cls, texts: Sequence[str]) -> "LexicalIndex":
        """Index texts."""
        bm25 = bm25s.BM25()
        found = terms(texts)
        if not any(found):  # bm25s cannot index nothing at all
            found = [*found[:-1], ["-"]]
        # Terms are numbered in their order: the same texts make the same files, in whatever process.
        vocabulary = {term: number for number, term in enumerate(sorted({term for words in found for term in words}))}
        ids = [[vocabulary[term] for term in words] for words in found]
        corpus = bm25s.tokenization.Tokenized(ids=ids, vocab=vocabulary)
        bm25.index(corpus, create_empty_token=False, show_progress=False)
        return cls({name: bm25.scores[name] for name in _ARRAYS}, bm25.vocab_dict, len(texts))

    def scores(self, question: str) -> Scores | None:
        """Return float32 [size], the BM25 score of every text; None where no word of the question occurs."""
        known = [self.vocabulary[term] for term in terms([question])[0] if term in self.vocabulary]
        if not known:
            return None
        found: Scores = self._bm25.get_scores_from_ids(known)
        return found

    def coverage(self, question: str, texts: Sequence[str]) -> float:
        """Return from 0 to 1 which share of a question's words the text holds that holds most of them.

        A word counts by its rarity in the index, as in BM25; one that no text of the index holds counts most.
        """
        asked = list(dict.fromkeys(terms([question])[0]))
        columns = [self.vocabulary.get(word) for word in asked]
        held_by = [0 if c is None else int(self.arrays["indptr"][c + 1] - self.arrays["indptr"][c]) for c in columns]
        weights = np.log(1 + self._size / (np.array(held_by) + 0.5))
        found = [sum(weights[n] for n, word in enumerate(asked) if word in of) for of in map(set, terms(texts))]
        return round(float(max(found, default=0.0) / weights.sum()), 4) if asked else 0.0

    def search(self, question: str, k: int, allowed: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.int64]:
        """Return at most `k` positions, best first, of texts that share a word with the question.

        Args:
            question: what is searched.
            k: at least 1.
            allowed: bool [size], which texts may be found; None for all.
        """
        scores = self.scores(question)
        if scores is None:
            return np.empty(0, dtype=np.int64)
        if allowed is not None:
            scores = np.where(allowed, scores, 0)
        best = np.argpartition(-scores, min(k, self._size) - 1)[:k]
        best = best[np.lexsort((best, -scores[best]))]
        return best[scores[best] > 0].astype(np.int64)


def terms(texts: Sequence[str]) -> list[list[str]]:
    """Return the terms of texts, in order: English words are stemmed, and stop words left out.

    What is written together is one term and its parts: `v2.0.1`, `e-mail`. `C++`, `C#`, capitals such as `R` and `IT`,
    and single digits are terms. Scripts without spaces are read in pairs of characters (Manning, Raghavan and Schütze,
    «Introduction to Information Retrieval», 2008, 2.2).
    """
    return [list(_terms(unicodedata.normalize("NFKC", text))) for text in texts]


def _terms(text: str) -> Iterator[str]:
    for found in _WORD.finditer(text):
        whole = found[0]
        if _UNSPACED.match(whole):
            yield from (whole[i : i + 2] for i in range(max(1, len(whole) - 1)))
            continue
        parts = _PART.findall(whole)
        if len(parts) > 1 or whole != parts[0]:
            yield _COMMA_IN_NUMBER.sub("", whole.lower())
        if len(parts) > 1 or whole == parts[0]:
            yield from filter(None, map(_stemmed, parts))


def _stemmed(word: str) -> str | None:
    lower = word.lower()
    if word.isupper() and word not in ("A", "I"):  # names, such as IT and R
        return lower if lower in STOPWORDS_EN or len(lower) == 1 else str(_stem(lower))
    if lower in STOPWORDS_EN or (len(lower) == 1 and lower.isalpha()):
        return None
    return str(_stem(lower))


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    stem: str = _STEMMER.stemWord(word)
    return stem
