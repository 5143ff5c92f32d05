"""DenseIndex: exact nearest-neighbour search by FAISS. The only user of faiss."""

import faiss
import numpy as np
import numpy.typing as npt

from llama_platform.errors import InputError
from rag.embedding import Vectors


class DenseIndex:
    """Holds unit vectors; the similarity is their inner product, the cosine."""

    def __init__(self, vectors: Vectors) -> None:
        """Index `vectors`.

        Args:
            vectors: float32 [num_vectors, dimensions], rows of length 1.
        """
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(np.ascontiguousarray(vectors))

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
        """Return (similarities, positions), each [num_queries, min(k, size)], best first.

        Args:
            queries: float32 [num_queries, dimensions], rows of length 1.
            k: at least 1.

        Raises:
            InputError: the queries have other dimensions than the index.
        """
        if queries.shape[1] != self._index.d:
            raise InputError(f"query vectors have {queries.shape[1]} dimensions, the index {self._index.d}")
        similarities, positions = self._index.search(np.ascontiguousarray(queries), min(k, self._index.ntotal))
        return similarities, positions
