import faiss
import numpy as np
import pytest

from llama_platform.errors import InputError, IntegrityError
from rag import dense_index
from rag.dense_index import DenseIndex, IndexingConfig

KINDS = ["flat", "hnsw", "ivf_pq"]


@pytest.fixture(scope="module")
def vectors():
    """Clusters, as embeddings of real texts have them."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 64))
    found = centres[rng.integers(0, 40, 4000)] + 0.7 * rng.standard_normal((4000, 64))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


def exact(vectors, query, k, allowed=None):
    similarities = vectors.astype(np.float32) @ query
    if allowed is not None:
        similarities[~allowed] = -2
    return np.argsort(-similarities, kind="stable")[:k]


def recall(index, vectors, k=10, allowed=None):
    found = 0
    queries = vectors[:100].astype(np.float32)
    for query, (_, rows) in zip(queries, index.search(queries, k, allowed), strict=True):
        found += len(set(rows) & set(exact(vectors, query, k, allowed)))
    return found / (100 * k)


@pytest.mark.parametrize(("kind", "least"), [("flat", 1.0), ("hnsw", 0.99), ("ivf_pq", 0.9)])
def test_neighbours_are_found(vectors, kind, least):
    index = DenseIndex.build(vectors, IndexingConfig(kind=kind))
    assert recall(index, vectors) >= least
    ((similarities, rows),) = index.search(vectors[7:8].astype(np.float32), 5)
    assert rows[0] == 7
    assert similarities[0] == pytest.approx(1, abs=1e-3)
    assert (np.diff(similarities) <= 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compared", [10, 20_000])
def test_only_what_is_allowed_is_found_and_all_of_that(vectors, kind, compared, monkeypatch):
    monkeypatch.setattr("rag.dense_index._COMPARED", compared)  # both ways of filtering
    index = DenseIndex.build(vectors, IndexingConfig(kind=kind))
    allowed = np.zeros(len(vectors), dtype=bool)
    allowed[::7] = True
    ((_, rows),) = index.search(vectors[1:2].astype(np.float32), 10, allowed)
    assert len(rows) == 10
    assert allowed[rows].all()
    assert recall(index, vectors, allowed=allowed) >= 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_comes_back_as_it_was_written(vectors, kind, tmp_path):
    index = DenseIndex.build(vectors, IndexingConfig(kind=kind))
    index.write(tmp_path / "dense.faiss")
    assert (tmp_path / "dense.faiss").exists() == (kind != "flat")
    back = DenseIndex.read(vectors, index.kind, IndexingConfig(), tmp_path / "dense.faiss")
    queries = vectors[:10].astype(np.float32)
    for (_, found), (_, before) in zip(back.search(queries, 10), index.search(queries, 10), strict=True):
        assert (found == before).all()


def test_a_file_that_is_no_index_of_these_vectors_is_refused(vectors, tmp_path):
    path = tmp_path / "dense.faiss"
    path.write_bytes(b"garbage")
    with pytest.raises(IntegrityError, match="not a FAISS index"):
        DenseIndex.read(vectors, "hnsw", IndexingConfig(), path)
    DenseIndex.build(vectors[:300], IndexingConfig(kind="hnsw")).write(path)
    with pytest.raises(IntegrityError, match="300 vectors of 64 dimensions"):
        DenseIndex.read(vectors, "hnsw", IndexingConfig(), path)


def test_a_query_of_other_dimensions_is_named(vectors):
    with pytest.raises(InputError, match="8 dimensions, the index 64"):
        DenseIndex.build(vectors, IndexingConfig()).search(np.ones((1, 8), dtype=np.float32), 1)


@pytest.mark.parametrize("codes", ["8bit", "float16"])
def test_the_graph_finds_in_whatever_codes_and_older_ones_are_read(vectors, codes, tmp_path):
    index = DenseIndex.build(vectors, IndexingConfig(kind="hnsw", codes=codes))
    assert recall(index, vectors) >= 0.99
    older = faiss.IndexHNSWSQ(64, faiss.ScalarQuantizer.QT_8bit, 24, faiss.METRIC_INNER_PRODUCT)
    older.train(vectors.astype(np.float32))
    older.add(vectors.astype(np.float32))
    faiss.write_index(older, str(tmp_path / "dense.faiss"))
    assert recall(DenseIndex.read(vectors, "hnsw", IndexingConfig(), tmp_path / "dense.faiss"), vectors) >= 0.99


@pytest.mark.parametrize(("slow", "chosen"), [("8bit", "float16"), ("float16", "8bit")])
def test_codes_are_those_that_are_compared_faster_here(vectors, slow, chosen, monkeypatch):
    took = {dense_index._QUANTIZERS[slow]: 2.0}
    monkeypatch.setattr(dense_index, "_seconds", lambda index, query: took.get(index.sq.qtype, 1.0))
    assert dense_index.fastest_codes(vectors) == chosen


def test_more_are_asked_for_than_there_are(vectors):
    index = DenseIndex.build(vectors[:3], IndexingConfig())
    ((_, rows),) = index.search(vectors[:1].astype(np.float32), 50)
    assert len(rows) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_many_queries_find_what_each_finds_alone(vectors, kind):
    index = DenseIndex.build(vectors, IndexingConfig(kind=kind))
    queries = vectors[50:90].astype(np.float32)
    for query, (similarities, rows) in zip(queries, index.search(queries, 7), strict=True):
        ((alone, found),) = index.search(query[None], 7)
        assert (rows == found).all()
        assert np.allclose(similarities, alone)
        assert np.allclose(similarities, vectors[rows].astype(np.float32) @ query, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_of_equal_vectors_the_first_is_found_first(vectors, kind):
    index = DenseIndex.build(np.concatenate([vectors[:300]] * 2), IndexingConfig(kind=kind))
    ((_, rows),) = index.search(vectors[5:6].astype(np.float32), 2)
    assert rows.tolist() == [5, 305]


def test_an_index_of_nothing_finds_nothing():
    index = DenseIndex.build(np.empty((0, 8), dtype=np.float16), IndexingConfig())
    assert [len(rows) for _, rows in index.search(np.ones((2, 8), dtype=np.float32), 3)] == [0, 0]


def test_the_kind_follows_from_the_size():
    config = IndexingConfig(hnsw_above=1000, ivf_above=2000)
    assert [config.chosen(size) for size in (1000, 1001, 2001)] == ["flat", "hnsw", "ivf_pq"]
    assert IndexingConfig(kind="ivf_pq").chosen(100) == "flat"
    assert IndexingConfig(kind="flat").chosen(10**9) == "flat"
