"""Snapshots: an index on disk, as chunks in Parquet and vectors in safetensors."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llama_platform.errors import IntegrityError
from rag.chunking import Chunk
from rag.embedding import Vectors

SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("document", "title", "heading", "text")]
    + [(name, pa.int64()) for name in ("start", "end")]
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Chunks and their vectors, row by row, and the model that made these."""

    chunks: list[Chunk]
    vectors: Vectors
    """float32 [len(chunks), dimensions], rows of length 1."""
    embedding_model: str


def write_snapshot(snapshot: Snapshot, folder: Path) -> None:
    """Write `chunks.parquet`, `vectors.safetensors` and `index.json`."""
    rows = [asdict(chunk) for chunk in snapshot.chunks]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "chunks.parquet")
    save_file({"vectors": snapshot.vectors}, folder / "vectors.safetensors")
    facts = {"embedding_model": snapshot.embedding_model}
    (folder / "index.json").write_text(json.dumps(facts), encoding="utf-8")


def read_snapshot(folder: Path) -> Snapshot:
    """Read what `write_snapshot` wrote.

    Raises:
        IntegrityError: files are missing or do not fit together.
    """
    try:
        chunks = [Chunk(**row) for row in pq.read_table(folder / "chunks.parquet", schema=SCHEMA).to_pylist()]
        vectors = load_file(folder / "vectors.safetensors")["vectors"]
        model = json.loads((folder / "index.json").read_text(encoding="utf-8"))["embedding_model"]
    except (OSError, KeyError, ValueError, pa.ArrowException, SafetensorError) as error:
        raise IntegrityError(f"{folder}: not an index: {error}") from error
    if vectors.ndim != 2 or len(vectors) != len(chunks):
        raise IntegrityError(f"{folder}: {len(chunks)} chunks, but vectors of shape {vectors.shape}")
    return Snapshot(chunks, vectors, model)
