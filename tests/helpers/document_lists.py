"""Index versions of which only the list of documents matters."""

from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq

from rag.indexed_documents import DOCUMENTS, DOCUMENTS_FILE, IndexedDocument


def publish_documents(repository, folder, *names):
    """Publish the next version of index `docs`, of documents with these ids."""
    folder.mkdir(exist_ok=True)
    rows = [asdict(IndexedDocument(name, None, "0" * 64, 1, (), None)) for name in names]
    pq.write_table(pa.Table.from_pylist(rows, schema=DOCUMENTS), folder / DOCUMENTS_FILE)
    return repository.publish("index", "docs", folder, {"documents": list(names)})
