"""The documents of an index: the list that its snapshot keeps of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llama_platform.errors import IntegrityError

DOCUMENTS = pa.schema([
    ("id", pa.string()), ("title", pa.string()), ("sha256", pa.string()), ("chunks", pa.int32()),
    ("tags", pa.list_(pa.string())), ("date", pa.string()),
])  # fmt: skip
DOCUMENTS_FILE = "documents.parquet"


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """A document of a snapshot."""

    id: str
    title: str | None
    sha256: str
    """Of what it was read from."""
    chunks: int
    tags: tuple[str, ...]
    date: str | None


def write_documents(documents: Sequence[IndexedDocument], folder: Path) -> None:
    """Write the list of an index's documents beside its other files."""
    rows = pa.Table.from_pylist([asdict(document) for document in documents], schema=DOCUMENTS)
    pq.write_table(rows, folder / DOCUMENTS_FILE, compression="zstd")


def read_documents(content: bytes) -> list[IndexedDocument]:
    """Return the documents that `documents.parquet` lists.

    Raises:
        IntegrityError: it is none.
    """
    try:
        rows = pq.read_table(pa.BufferReader(content), schema=DOCUMENTS).to_pylist()
    except (ValueError, pa.ArrowException) as error:
        raise IntegrityError(f"not a list of documents: {error}") from error
    return [IndexedDocument(**{**row, "tags": tuple(row["tags"])}) for row in rows]
