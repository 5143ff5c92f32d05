"""Fixtures of the tests of documents."""

import pytest

from rag.documents.chunking import ChunkingConfig
from rag.documents.formats import ReadingConfig, read_file
from rag.documents.reader import Reader
from rag.embedding_model import OFFLINE_MODEL, EmbeddingModel

LIMITS = ReadingConfig(max_bytes=2_000_000, max_pages=5)


@pytest.fixture(scope="module")
def tokenizer():
    return EmbeddingModel(OFFLINE_MODEL).tokenizer


@pytest.fixture
def reader(tokenizer):
    reader = Reader(ReadingConfig(timeout_s=20), ChunkingConfig(chunk_tokens=32), tokenizer)
    yield reader
    reader.close()


@pytest.fixture
def read(tmp_path):
    def read(name, content, limits=LIMITS):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_file(path, name, limits)

    return read
