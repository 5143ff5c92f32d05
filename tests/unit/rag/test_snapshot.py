import numpy as np
import pytest

from llama_platform.errors import IntegrityError
from rag.indexed_documents import IndexedDocument, read_documents
from rag.snapshot import read_snapshot, write_snapshot

DOCUMENTS = [IndexedDocument("a.md", "Title", "0" * 64, 1, ("x",), None)]


@pytest.fixture
def snapshot(snapshot_of, make_chunk):
    return snapshot_of([make_chunk("green tea", page=3, tags=("x",), date="2026-01-02"), make_chunk("black coffee")])


def test_a_snapshot_comes_back_as_it_was_written(snapshot, tmp_path):
    write_snapshot(snapshot, DOCUMENTS, tmp_path)
    back = read_snapshot(tmp_path)
    assert [back.chunk(row) for row in range(2)] == [snapshot.chunk(row) for row in range(2)]
    assert back.chunk(0).page == 3
    assert np.array_equal(back.dense.vectors, snapshot.dense.vectors)
    assert list(back.lexical.search("coffee", 2)) == [1]
    assert read_documents((tmp_path / "documents.parquet").read_bytes()) == DOCUMENTS
    assert {path.suffix for path in tmp_path.iterdir()} == {".parquet", ".safetensors", ".json"}


@pytest.mark.parametrize(
    "file", ["chunks.parquet", "vectors.safetensors", "index.json", "lexical.safetensors", "vocabulary.json"]
)
@pytest.mark.parametrize("content", [b"garbage", None])
def test_a_damaged_snapshot_is_refused(snapshot, tmp_path, file, content):
    write_snapshot(snapshot, DOCUMENTS, tmp_path)
    (tmp_path / file).unlink() if content is None else (tmp_path / file).write_bytes(content)
    with pytest.raises(IntegrityError, match="not an index"):
        read_snapshot(tmp_path)


def test_chunks_and_vectors_must_be_as_many(snapshot, snapshot_of, make_chunk, tmp_path):
    write_snapshot(snapshot, DOCUMENTS, tmp_path)
    (tmp_path / "other").mkdir()
    write_snapshot(snapshot_of([make_chunk("one")]), DOCUMENTS, tmp_path / "other")
    (tmp_path / "other/vectors.safetensors").replace(tmp_path / "vectors.safetensors")
    with pytest.raises(IntegrityError, match=r"2 chunks, but float16 vectors of shape \(1, 64\)"):
        read_snapshot(tmp_path)
