"""DenseIndex: nearest neighbours of a question's vector, exact or approximate, by FAISS. The only user of faiss."""

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
Stored = npt.NDArray[np.float16]
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


class IndexingConfig(Config):
    """How vectors are searched."""

    kind: Literal["auto", "flat", "hnsw", "ivf_pq"] = "auto"
    """`flat` compares with every vector. `hnsw` walks a graph of neighbours (Malkov and Yashunin, 2018), over values of
    8 bits; `ivf_pq` looks into the nearest of many cells, at codes of 4 bits (Jégou et al., 2011). Both compare what
    they find with the vectors themselves. `auto` chooses by size."""
    hnsw_above: Positive = 50_000
    """Chunks above which `auto` chooses `hnsw`."""
    ivf_above: Positive = 2_000_000
    """Chunks above which `auto` chooses `ivf_pq`."""
    neighbours: Positive = 24
    """HNSW: links of a vector on each layer of the graph (M)."""
    ef_construction: Positive = 120
    """HNSW: candidates that are kept while the graph is built."""
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

    def __init__(self, vectors: Stored, kind: IndexKind, settings: IndexingConfig, index: Any) -> None:
        """Use an index that `build` or `read` has made.

        Args:
            vectors: float16 [num_vectors, dimensions], rows of length 1.
            kind: kind of the FAISS index.
            settings: how wide it searches.
            index: the FAISS index.
        """
        self.vectors, self.kind, self._settings, self._index = vectors, kind, settings, index

    @classmethod
    def build(cls, vectors: Stored, settings: IndexingConfig) -> "DenseIndex":
        """Index vectors.

        Args:
            vectors: float16 [num_vectors, dimensions], rows of length 1.
            settings: how.
        """
        size, dimensions = vectors.shape
        kind = settings.chosen(size)
        if kind == "flat":
            return cls._flat(vectors, settings)
        if kind == "hnsw":
            scalar = faiss.ScalarQuantizer.QT_8bit
            index: Any = faiss.IndexHNSWSQ(dimensions, scalar, settings.neighbours, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = settings.ef_construction
        else:
            cells = max(1, min(int(4 * size**0.5), size // 40))
            parts = next(parts for parts in (dimensions // 4, dimensions // 2, dimensions) if dimensions % parts == 0)
            index = faiss.index_factory(dimensions, f"IVF{cells},PQ{parts}x4fs", faiss.METRIC_INNER_PRODUCT)
        sample = np.sort(np.random.default_rng(0).permutation(size)[:_TRAINED])
        index.train(vectors[sample].astype(np.float32))
        _add(index, vectors)
        return cls(vectors, kind, settings, index)

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
            return cls._flat(vectors, settings)
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise IntegrityError(f"{path}: not a FAISS index") from error
        if (index.ntotal, index.d) != vectors.shape:
            raise IntegrityError(f"{path}: {index.ntotal} vectors of {index.d} dimensions, expected {vectors.shape}")
        return cls(vectors, kind, settings, index)

    @classmethod
    def _flat(cls, vectors: Stored, settings: IndexingConfig) -> "DenseIndex":
        size, dimensions = vectors.shape
        if size == 0:
            return cls(vectors, "flat", settings, None)
        index = faiss.IndexScalarQuantizer(dimensions, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        index.train(np.zeros((1, dimensions), dtype=np.float32))
        _add(index, vectors)
        # FAISS's own copy serves for both; `index` keeps it alive.
        codes = faiss.rev_swig_ptr(index.codes.data(), size * dimensions * 2)
        return cls(codes.view(np.float16).reshape(size, dimensions), "flat", settings, index)

    def write(self, path: Path) -> None:
        """Write what cannot be had quickly from the vectors; of a flat index, nothing."""
        if self.kind != "flat":
            faiss.write_index(self._index, str(path))

    def search(
        self, query: Vectors, k: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> tuple[Vectors, npt.NDArray[np.int64]]:
        """Return (similarities, positions), each [at most k], best first.

        Args:
            query: float32 [dimensions], of length 1.
            k: at least 1.
            allowed: bool [num_vectors], which may be found; None for all.

        Raises:
            InputError: the query has other dimensions than the index.
        """
        if not len(self.vectors):
            return np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64)
        if query.shape != self.vectors.shape[1:]:
            raise InputError(f"the query has {query.shape[0]} dimensions, the index {self.vectors.shape[1]}")
        share = 1.0 if allowed is None else float(allowed.mean())
        if allowed is not None and share * len(allowed) <= _COMPARED:
            rows = np.flatnonzero(allowed)  # few enough to compare with each; a graph would be full of dead ends
        else:
            factor, least = _CANDIDATES[self.kind]
            rows = self._candidates(query, max(factor * k, least), allowed, share)
        similarities = self.similarities(query, rows)
        best = np.lexsort((rows, -similarities))[:k]
        return similarities[best], rows[best]

    def similarities(self, query: Vectors, rows: npt.NDArray[np.int64]) -> Vectors:
        """Return float32 [len(rows)], the cosines of the query and the vectors at `rows`.

        Args:
            query: float32 [dimensions], of length 1.
            rows: int64, rows of `vectors`.
        """
        found: Vectors = self.vectors[rows].astype(np.float32) @ query
        return found

    def _candidates(
        self, query: Vectors, count: int, allowed: npt.NDArray[np.bool_] | None, share: float
    ) -> npt.NDArray[np.int64]:
        selector = None
        if allowed is not None:
            selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        if self.kind == "hnsw":
            kept = max(self._settings.ef_search, count)
            # Of what the walk meets, only a share may be found: it goes on until as much of that is there.
            parameters = faiss.SearchParametersHNSW(efSearch=int(kept / share), sel=selector)
        elif self.kind == "ivf_pq":
            probes = min(int(self._settings.probes / share), self._index.nlist)
            parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        else:
            parameters = faiss.SearchParameters(sel=selector)
        _, rows = self._index.search(query[None], min(count, len(self.vectors)), params=parameters)
        found: npt.NDArray[np.int64] = rows[0][rows[0] >= 0]
        return found


def _add(index: Any, vectors: Stored) -> None:
    for start in range(0, len(vectors), _BLOCK):
        index.add(vectors[start : start + _BLOCK].astype(np.float32))
