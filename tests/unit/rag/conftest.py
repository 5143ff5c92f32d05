import numpy as np
import pytest

from fake_embedder import FakeEmbedder
from llama_platform.artifacts.location import StoreConfig, repository_from
from rag.dense_index import IndexingConfig
from rag.documents.chunking import Chunk
from rag.snapshot import make_snapshot


@pytest.fixture
def embedder():
    return FakeEmbedder()


@pytest.fixture
def repository(tmp_path):
    return repository_from(StoreConfig(uri=str(tmp_path / "store"), cache=tmp_path / "cache"), {})


@pytest.fixture
def make_chunk():
    def make(text, document="a.md", **fields):
        return Chunk(document, "Title", "", text, 0, len(text), **fields)

    return make


@pytest.fixture
def snapshot_of(embedder):
    """Index chunks in memory."""

    def snapshot_of(chunks, kind="flat"):
        vectors = embedder.embed([chunk.text for chunk in chunks]).astype(np.float16)
        return make_snapshot(chunks, vectors, (embedder.name, embedder.fingerprint), IndexingConfig(kind=kind))

    return snapshot_of
