"""DenseIndex: nearest neighbours of a question's vector, exact or approximate, by FAISS. The only user of faiss."""

import logging
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import faiss
import numpy as np
import numpy.typing as npt
from pydantic import Field

from llama_platform.config import Config
from llama_platform.errors import InputError, IntegrityError
from rag.embedding import Vectors

IndexKind = Literal["flat", "hnsw", "ivf_pq"]
_log = logging.getLogger(__name__)
Stored = npt.NDArray[np.float16]
Neighbours = tuple[Vectors, npt.NDArray[np.int64]]
Positive = Annotated[int, Field(ge=1)]
_BLOCK = 65536
"""Vectors that are converted to float32 at a time."""
_TRAINED = 256 * 1024
"""Vectors at most that quantizers learn from."""
_LEAST_QUANTIZED = 256
"""Vectors; fewer cannot teach a quantizer, and are compared quicker than looked up."""
_COMPARED = 20_000
"""Allowed vectors up to which each is compared with."""
_CANDIDATES: dict[IndexKind, tuple[int, int]] = {"flat": (1, 1), "hnsw": (2, 30), "ivf_pq": (10, 200)}
"""Found in approximate values for each of k, and at least; then compared exactly."""
Codes = Literal["8bit", "float16"]
_QUANTIZERS: dict[Codes, int] = {
    "8bit": faiss.ScalarQuantizer.QT_8bit_uniform,
    "float16": faiss.ScalarQuantizer.QT_fp16,
}
_TIMED_VECTORS, _TIMED_QUERIES = 32_768, 16
_CLEARLY = 0.9
"""A share of the time of 8 bits, which take half the memory."""
_ROUNDING = 1e-4
"""FAISS multiplies k with a factor of 32 bits and cuts what is behind the point."""


class IndexingConfig(Config):
    """How vectors are searched."""

    kind: Literal["auto", "flat", "hnsw", "ivf_pq"] = "auto"
    """`flat` compares with every vector. `hnsw` walks a graph of neighbours (Malkov and Yashunin, 2018), over `codes`;
    `ivf_pq` looks into the nearest of many cells, at codes of 4 bits (Jégou et al., 2011). Both compare what they find
    with the vectors themselves. `auto` chooses by size."""
    hnsw_above: Positive = 50_000
    """Chunks above which `auto` chooses `hnsw`."""
    ivf_above: Positive = 2_000_000
    """Chunks above which `auto` chooses `ivf_pq`."""
    neighbours: Positive = 24
    """HNSW: links of a vector on each layer of the graph (M)."""
    ef_construction: Positive = 120
    """HNSW: candidates that are kept while the graph is built."""
    codes: Literal["auto", "8bit", "float16"] = "auto"
    """HNSW: what the graph's vectors are held in. How fast FAISS compares each differs by processor, and by whether
    they come from memory: `auto` times both when the index is built, in a fraction of a second."""
    ef_search: Positive = 120
    """HNSW: candidates that are kept while the graph is searched: more is nearer to exact, and slower."""
    probes: Positive = 64
    """IVF: cells that a query looks into (nprobe)."""

    def chosen(self, size: int) -> IndexKind:
        """Return the kind for a number of vectors."""
        if size < _LEAST_QUANTIZED:
            return "flat"
        if self.kind != "auto":
            return self.kind
        return "ivf_pq" if size > self.ivf_above else "hnsw" if size > self.hnsw_above else "flat"


class DenseIndex:
    """Holds unit vectors in float16; the similarity is their inner product, the cosine."""

    def __init__(self, exact: Any, kind: IndexKind, settings: IndexingConfig, approximate: Any = None) -> None:
        """Use what `build` or `read` has made.

        Args:
            exact: FAISS index of the vectors in float16.
            kind: how they are searched.
            settings: how wide.
            approximate: FAISS index that finds what `exact` compares; None where it compares everything.
        """
        self.kind, self._settings, self._exact, self._approximate = kind, settings, exact, approximate
        self._index = exact if approximate is None else faiss.IndexRefine(approximate, exact)
        # FAISS's own copy serves for both; `exact` keeps it alive.
        codes = faiss.rev_swig_ptr(exact.codes.data(), exact.codes.size()) if exact.ntotal else np.empty(0, np.uint8)
        self.vectors: Stored = codes.view(np.float16).reshape(exact.ntotal, exact.d)
        """float16 [num_vectors, dimensions]."""

    @classmethod
    def build(cls, vectors: Stored, settings: IndexingConfig) -> "DenseIndex":
        """Index vectors.

        Args:
            vectors: float16 [num_vectors, dimensions], rows of length 1.
            settings: how.
        """
        size, dimensions = vectors.shape
        kind, exact = settings.chosen(size), _exact(vectors)
        if kind == "flat":
            return cls(exact, kind, settings)
        if kind == "hnsw":
            codes = _QUANTIZERS[fastest_codes(vectors) if settings.codes == "auto" else settings.codes]
            index: Any = faiss.IndexHNSWSQ(dimensions, codes, settings.neighbours, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = settings.ef_construction
        else:
            cells = max(1, min(int(4 * size**0.5), size // 40))
            parts = next(parts for parts in (dimensions // 4, dimensions // 2, dimensions) if dimensions % parts == 0)
            index = faiss.index_factory(dimensions, f"IVF{cells},PQ{parts}x4fs", faiss.METRIC_INNER_PRODUCT)
        sample = np.sort(np.random.default_rng(0).permutation(size)[:_TRAINED])
        index.train(vectors[sample].astype(np.float32))
        _add(index, vectors)
        return cls(exact, kind, settings, index)

    @classmethod
    def read(cls, vectors: Stored, kind: IndexKind, settings: IndexingConfig, path: Path) -> "DenseIndex":
        """Return the index that `write` wrote.

        Args:
            vectors: float16 [num_vectors, dimensions] that the index was made of.
            kind: kind of the FAISS index.
            settings: how wide it searches.
            path: the file that `write` wrote.

        Raises:
            IntegrityError: the file is no index of these vectors.
        """
        if kind == "flat":
            return cls(_exact(vectors), kind, settings)
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise IntegrityError(f"{path}: not a FAISS index") from error
        if (index.ntotal, index.d) != vectors.shape:
            raise IntegrityError(f"{path}: {index.ntotal} vectors of {index.d} dimensions, expected {vectors.shape}")
        return cls(_exact(vectors), kind, settings, index)

    def write(self, path: Path) -> None:
        """Write what cannot be had quickly from the vectors; of a flat index, nothing."""
        if self._approximate is not None:
            faiss.write_index(self._approximate, str(path))

    def search(self, queries: Vectors, k: int, allowed: npt.NDArray[np.bool_] | None = None) -> list[Neighbours]:
        """Return what is nearest to each query: (similarities, positions), each [at most k], best first.

        Args:
            queries: float32 [num_queries, dimensions], rows of length 1.
            k: at least 1.
            allowed: bool [num_vectors], which may be found; None for all.

        Raises:
            InputError: the queries have other dimensions than the index.
        """
        if not len(self.vectors):
            return [(np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64))] * len(queries)
        if queries.shape[1:] != self.vectors.shape[1:]:
            raise InputError(f"the query has {queries.shape[1]} dimensions, the index {self.vectors.shape[1]}")
        share = 1.0 if allowed is None else float(allowed.mean())
        if allowed is not None and share * len(allowed) <= _COMPARED:
            rows = np.flatnonzero(allowed)  # few enough to compare with each; a graph would be full of dead ends
            of_each = queries @ self.vectors[rows].astype(np.float32).T
            return [_best(similarities, rows, k) for similarities in of_each]
        parameters = self._parameters(k, allowed, share)
        similarities, found = self._index.search(queries, min(k, len(self.vectors)), params=parameters)
        return [_best(*pair, k) for pair in zip(similarities, found, strict=True)]

    def similarities(self, query: Vectors, rows: npt.NDArray[np.int64]) -> Vectors:
        """Return float32 [len(rows)], the cosines of the query and the vectors at `rows`.

        Args:
            query: float32 [dimensions], of length 1.
            rows: int64, rows of `vectors`.
        """
        found: Vectors = self.vectors[rows].astype(np.float32) @ query
        return found

    def _parameters(self, k: int, allowed: npt.NDArray[np.bool_] | None, share: float) -> Any:
        """Return how FAISS searches: how many candidates it compares exactly, how widely it looks for them."""
        selector = None
        if allowed is not None:
            selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        if self.kind == "flat":
            return faiss.SearchParameters(sel=selector)
        factor, least = _CANDIDATES[self.kind]
        count = max(factor * k, least)
        if self.kind == "hnsw":
            kept = max(self._settings.ef_search, count)
            # Of what the walk meets, only a share may be found: it goes on until as much of that is there.
            wide = faiss.SearchParametersHNSW(efSearch=int(kept / share), sel=selector)
        else:
            probes = min(int(self._settings.probes / share), self._approximate.nlist)
            wide = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        found = min(k, len(self.vectors))
        return faiss.IndexRefineSearchParameters(
            k_factor=min(count, len(self.vectors)) / found + _ROUNDING, base_index_params=wide
        )


def fastest_codes(vectors: Stored) -> Codes:
    """Return in which codes vectors are compared fastest here: in 8 bits unless 16 are clearly faster.

    They are compared one after another, more of them than a core's own cache holds, as the graph of a large index does.

    Args:
        vectors: float16 [num_vectors, dimensions].
    """
    compared = vectors[:_TIMED_VECTORS].astype(np.float32)
    queries, times = compared[:_TIMED_QUERIES], dict[Codes, float]()
    for codes, quantizer in _QUANTIZERS.items():
        index = faiss.IndexScalarQuantizer(compared.shape[1], quantizer, faiss.METRIC_INNER_PRODUCT)
        index.train(compared)
        index.add(compared)
        times[codes] = min(_seconds(index, query) for _ in range(2) for query in queries)
    chosen: Codes = "float16" if times["float16"] < _CLEARLY * times["8bit"] else "8bit"
    each = ", ".join(f"{codes} {1e9 * seconds / len(compared):.1f} ns" for codes, seconds in times.items())
    _log.info("a vector is compared in: %s; the graph holds %s", each, chosen)
    return chosen


def _seconds(index: Any, query: Vectors) -> float:
    begun = time.perf_counter()
    index.search(query[None], 1)
    return time.perf_counter() - begun


def _best(similarities: Vectors, rows: npt.NDArray[np.int64], k: int) -> Neighbours:
    """Return the best k; of equals the first rows, and nothing where FAISS found nothing (-1)."""
    there = rows >= 0
    similarities, rows = similarities[there], rows[there]
    best = np.lexsort((rows, -similarities))[:k]
    return similarities[best], rows[best]


def _exact(vectors: Stored) -> Any:
    size, dimensions = vectors.shape
    index = faiss.IndexScalarQuantizer(dimensions, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.train(np.zeros((1, dimensions), dtype=np.float32))
    if size:
        _add(index, vectors)
    return index


def _add(index: Any, vectors: Stored) -> None:
    for start in range(0, len(vectors), _BLOCK):
        index.add(vectors[start : start + _BLOCK].astype(np.float32))
