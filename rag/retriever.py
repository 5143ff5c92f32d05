"""Retriever: the chunks of a snapshot that are nearest to a question."""

from dataclasses import dataclass

from llama_platform.errors import InputError
from rag.chunking import Chunk
from rag.dense_index import DenseIndex
from rag.embedding import Embedder
from rag.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found."""

    chunk: Chunk
    row: int
    """Of the chunk in its snapshot."""
    score: float
    """Cosine of question and chunk: 0 for unrelated (or opposite), 1 for the same."""


class Retriever:
    """Searches one snapshot."""

    def __init__(self, snapshot: Snapshot, embedder: Embedder) -> None:
        """Build the index.

        Raises:
            InputError: the snapshot was made with another embedding model.
        """
        if snapshot.embedding_model != embedder.name:
            raise InputError(
                f"the index was made with the embedding model '{snapshot.embedding_model}', "
                f"this retriever uses '{embedder.name}': build the index again or change the retriever"
            )
        self._chunks = snapshot.chunks
        self._index = DenseIndex(snapshot.vectors)
        self._embedder = embedder

    def search(self, question: str, k: int) -> list[Hit]:
        """Return the `k` nearest chunks, best first; fewer from a smaller index."""
        similarities, rows = self._index.search(self._embedder.embed([question]), k)
        return [
            Hit(self._chunks[row], row, round(min(max(float(similarity), 0.0), 1.0), 4))
            for similarity, row in zip(similarities[0], (int(row) for row in rows[0]), strict=True)
        ]
