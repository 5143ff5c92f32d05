"""Previous: what the newest version of an index holds, for the next one to take over."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.repository import ArtifactRepository
from rag.dense_index import Stored
from rag.documents.chunking import Chunk
from rag.indexed_documents import DOCUMENTS_FILE, IndexedDocument, read_documents
from rag.snapshot import chunks_of, read_chunks


@dataclass(frozen=True, slots=True)
class Previous:
    """Documents, chunks and vectors of a version; empty where there is none."""

    number: int
    """Of the newest version, on which the next one follows."""
    documents: Sequence[IndexedDocument] = ()
    chunks: Sequence[Chunk] = ()
    vectors: Stored | None = None
    """float16 [len(chunks), dimensions]; None where another embedding model made them."""
    taken: int = 0
    """Of the version whose documents these are."""

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


def base_number(repository: ArtifactRepository, name: str, alias: str) -> int:
    """Return the version that an update goes on from: the newest one, but never one that was rolled back.

    After a rollback that is the version that the alias has, until another one has been committed on top of it.

    Args:
        repository: where the index is.
        name: name of the index.
        alias: alias that is served.
    """
    numbers = repository.versions("index", name)
    changes = [change for change in Aliases(repository, "index", name).read().history if change.alias == alias]
    had = [max(target.version for target in change.targets) for change in changes]
    if not changes or not numbers or had[-1] >= max(had):
        return numbers[-1] if numbers else 0
    # The alias has gone back. Whatever is newer and was committed before that may hold what it went back from.
    moment = next(changes[place].at for place in reversed(range(1, len(had))) if had[place] < had[place - 1])
    since = [n for n in numbers if n > had[-1] and repository.version("index", name, n).created > moment]
    return max(since, default=had[-1])


def read_previous(repository: ArtifactRepository, name: str, fingerprint: str, number: int | None = None) -> Previous:
    """Return what a version holds, and which one is the newest.

    Args:
        repository: where it is.
        name: name of the index.
        fingerprint: fingerprint of the embedding model of the next version.
        number: the version; None for the newest.

    Raises:
        IntegrityError: it is damaged.
    """
    numbers = repository.versions("index", name)
    if not numbers:
        return Previous(0)
    with repository.fetched(repository.version("index", name, number or numbers[-1])) as folder:
        facts, chunks, vectors = read_chunks(folder)
        documents = read_documents((folder / DOCUMENTS_FILE).read_bytes())
    same_model = facts.embedding_fingerprint == fingerprint
    return Previous(numbers[-1], documents, chunks_of(chunks), vectors if same_model else None, number or numbers[-1])


def _digest(chunk: Chunk) -> bytes:
    return hashlib.sha256(chunk.embedded_text().encode("utf-8", "replace")).digest()
