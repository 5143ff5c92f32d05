import numpy as np
import pytest

from llama_platform.errors import InputError, IntegrityError
from rag.chunking import Chunk
from rag.dense_index import DenseIndex
from rag.retriever import Retriever
from rag.snapshot import Snapshot, read_snapshot, write_snapshot


def chunk(text, document="a.md"):
    return Chunk(document, "Title", "", text, 0, len(text))


@pytest.fixture
def snapshot(embedder):
    chunks = [chunk("green tea with water"), chunk("install the operator with helm"), chunk("black coffee beans")]
    return Snapshot(chunks, embedder.embed([c.text for c in chunks]), "fake")


def test_best_comes_first_with_scores_from_0_to_1(snapshot, embedder):
    hits = Retriever(snapshot, embedder).search("install the operator with helm", 2)
    assert [hit.row for hit in hits] == [1, 0]
    assert hits[0].score == 1.0
    assert 0 <= hits[1].score < 1
    assert len(Retriever(snapshot, embedder).search("tea", 10)) == 3


def test_exact_search_agrees_with_numpy(embedder):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((200, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    _, found = DenseIndex(vectors).search(vectors[:20], 5)
    expected = np.argsort(-(vectors[:20] @ vectors.T), axis=1)[:, :5]
    assert (found == expected).all()
    with pytest.raises(InputError, match="dimensions"):
        DenseIndex(vectors).search(vectors[:1, :8], 1)


def test_a_snapshot_comes_back_as_it_was_written(snapshot, tmp_path):
    write_snapshot(snapshot, tmp_path)
    back = read_snapshot(tmp_path)
    assert back.chunks == snapshot.chunks
    assert np.array_equal(back.vectors, snapshot.vectors)
    assert {p.suffix for p in tmp_path.iterdir()} == {".parquet", ".safetensors", ".json"}


@pytest.mark.parametrize("file", ["chunks.parquet", "vectors.safetensors", "index.json"])
def test_a_damaged_snapshot_is_refused(snapshot, tmp_path, file):
    write_snapshot(snapshot, tmp_path)
    (tmp_path / file).write_bytes(b"garbage")
    with pytest.raises(IntegrityError, match="not an index"):
        read_snapshot(tmp_path)


def test_chunks_and_vectors_must_be_as_many(snapshot, tmp_path):
    write_snapshot(Snapshot(snapshot.chunks, snapshot.vectors[:2], "fake"), tmp_path)
    with pytest.raises(IntegrityError, match="3 chunks, but vectors of shape"):
        read_snapshot(tmp_path)


def test_an_index_of_another_embedding_model_is_refused_with_both_names(snapshot, embedder):
    other = Snapshot(snapshot.chunks, snapshot.vectors, "other-model")
    with pytest.raises(InputError, match=r"'other-model'.*'fake'"):
        Retriever(other, embedder)
