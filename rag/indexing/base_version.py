"""Previous: what the newest version of an index holds, for the next one to take over."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llama_platform.artifacts.repository import ArtifactRepository
from rag.dense_index import Stored
from rag.documents.chunking import Chunk
from rag.snapshot import DOCUMENTS_FILE, IndexedDocument, chunks_of, read_chunks, read_documents


@dataclass(frozen=True, slots=True)
class Previous:
    """Documents, chunks and vectors of a version; empty where there is none."""

    number: int
    documents: Sequence[IndexedDocument] = ()
    chunks: Sequence[Chunk] = ()
    vectors: Stored | None = None
    """float16 [len(chunks), dimensions]; None where another embedding model made them."""

    def known(self, chunks: Sequence[Chunk]) -> list[int]:
        """Return for each chunk a row of `vectors` that is of the same text, or -1."""
        if self.vectors is None:
            return [-1] * len(chunks)
        rows = {_digest(chunk): row for row, chunk in enumerate(self.chunks)}
        return [rows.get(_digest(chunk), -1) for chunk in chunks]

    def fill(self, vectors: Stored, rows: Sequence[int]) -> None:
        """Copy what is known into float16 [len(rows), dimensions]."""
        if self.vectors is not None:
            taken = [place for place, row in enumerate(rows) if row >= 0]
            vectors[taken] = self.vectors[np.array([rows[place] for place in taken], dtype=np.int64)]


def read_previous(repository: ArtifactRepository, name: str, fingerprint: str) -> Previous:
    """Return what the newest version holds.

    Args:
        repository: where it is.
        name: name of the index.
        fingerprint: fingerprint of the embedding model of the next version.

    Raises:
        IntegrityError: it is damaged.
    """
    numbers = repository.versions("index", name)
    if not numbers:
        return Previous(0)
    with repository.fetched(repository.version("index", name, numbers[-1])) as folder:
        facts, chunks, vectors = read_chunks(folder)
        documents = read_documents((folder / DOCUMENTS_FILE).read_bytes())
    same_model = facts.embedding_fingerprint == fingerprint
    return Previous(numbers[-1], documents, chunks_of(chunks), vectors if same_model else None)


def _digest(chunk: Chunk) -> bytes:
    return hashlib.sha256(chunk.embedded_text().encode("utf-8", "replace")).digest()
