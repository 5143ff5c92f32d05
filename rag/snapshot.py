"""Snapshot: a whole index as files: Parquet, safetensors, JSON, and FAISS's own for a graph. Nothing is unpickled."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llama_platform.config import Config
from llama_platform.errors import IntegrityError
from rag.dense_index import DenseIndex, IndexingConfig, IndexKind, Stored
from rag.documents.chunking import Chunk
from rag.indexed_documents import IndexedDocument, write_documents
from rag.lexical_index import LexicalIndex

TEXTS, NUMBERS = ("document", "title", "heading", "text"), ("start", "end")
CHUNKS = pa.schema(
    [(name, pa.large_string()) for name in TEXTS]
    + [(name, pa.int64()) for name in NUMBERS]
    + [("page", pa.int32()), ("tags", pa.list_(pa.string())), ("date", pa.string())]
)


class SnapshotFacts(Config):
    """What is known of a snapshot; its `index.json`."""

    embedding_model: str
    """Name of the embedding model, as configured when the index was built."""
    embedding_fingerprint: str
    """Fingerprint of the model that made the vectors; no other can search them."""
    kind: IndexKind
    """Kind of the FAISS index: `flat`, `hnsw` or `ivf_pq`."""
    indexing: IndexingConfig
    """How the FAISS index was made and is searched."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is needed to search."""

    facts: SnapshotFacts
    chunks: pa.Table
    """Columns as in CHUNKS, in one piece each."""
    dense: DenseIndex
    lexical: LexicalIndex

    def chunk(self, row: int) -> Chunk:
        """Return one chunk."""
        (found,) = chunks_of(self.chunks.slice(row, 1))
        return found


def chunks_of(table: pa.Table) -> list[Chunk]:
    """Return the chunks of a table."""
    return [Chunk(**{**row, "tags": tuple(row["tags"])}) for row in table.to_pylist()]


def make_snapshot(
    chunks: Sequence[Chunk], vectors: Stored, embedding: tuple[str, str], indexing: IndexingConfig
) -> Snapshot:
    """Index chunks.

    Args:
        chunks: in the order of their documents.
        vectors: float16 [len(chunks), dimensions], rows of length 1.
        embedding: name and fingerprint of the model that made them.
        indexing: how they are searched.
    """
    table = pa.Table.from_pylist([asdict(chunk) for chunk in chunks], schema=CHUNKS).combine_chunks()
    dense = DenseIndex.build(vectors, indexing)
    facts = SnapshotFacts(
        embedding_model=embedding[0], embedding_fingerprint=embedding[1], kind=dense.kind, indexing=indexing
    )
    lexical = LexicalIndex.build([chunk.embedded_text() for chunk in chunks])
    return Snapshot(facts, table, dense, lexical)


def write_snapshot(snapshot: Snapshot, documents: Sequence[IndexedDocument], folder: Path) -> None:
    """Write a snapshot, and a list of the documents that it is of."""
    pq.write_table(snapshot.chunks, folder / "chunks.parquet", compression="zstd")
    write_documents(documents, folder)
    save_file({"vectors": np.ascontiguousarray(snapshot.dense.vectors)}, folder / "vectors.safetensors")
    snapshot.dense.write(folder / "dense.faiss")
    save_file(snapshot.lexical.arrays, folder / "lexical.safetensors")
    words = json.dumps(snapshot.lexical.vocabulary, ensure_ascii=False)
    (folder / "vocabulary.json").write_text(words, encoding="utf-8")
    (folder / "index.json").write_text(snapshot.facts.model_dump_json(), encoding="utf-8")


def read_snapshot(folder: Path) -> Snapshot:
    """Read what `write_snapshot` wrote.

    Raises:
        IntegrityError: files are missing or do not fit together.
    """
    facts, chunks, vectors = read_chunks(folder)
    try:
        arrays = load_file(folder / "lexical.safetensors")
        words = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        lexical = LexicalIndex(arrays, words, len(chunks))
    except (OSError, KeyError, ValueError, TypeError, SafetensorError) as error:
        raise IntegrityError(f"{folder}: not an index: {error}") from error
    dense = DenseIndex.read(vectors, facts.kind, facts.indexing, folder / "dense.faiss")
    return Snapshot(facts, chunks, dense, lexical)


def read_chunks(folder: Path) -> tuple[SnapshotFacts, pa.Table, Stored]:
    """Read what the next version may take over: facts, chunks and vectors.

    Raises:
        IntegrityError: files are missing or do not fit together.
    """
    try:
        facts = SnapshotFacts.model_validate_json((folder / "index.json").read_bytes())
        chunks = pq.read_table(folder / "chunks.parquet", schema=CHUNKS).combine_chunks()
        vectors = load_file(folder / "vectors.safetensors")["vectors"]
    except ValidationError as error:
        fields = ", ".join(str(item["loc"][0]) for item in error.errors() if item["loc"]) or "its form"
        raise IntegrityError(f"{folder}: not an index, or one of another release: index.json: {fields}") from error
    except (OSError, KeyError, ValueError, pa.ArrowException, SafetensorError) as error:
        raise IntegrityError(f"{folder}: not an index: {error}") from error
    if vectors.ndim != 2 or len(vectors) != len(chunks) or vectors.dtype != np.float16:
        raise IntegrityError(f"{folder}: {len(chunks)} chunks, but {vectors.dtype} vectors of shape {vectors.shape}")
    return facts, chunks, vectors
