"""Fixtures of the tests of documents."""

import pytest

from rag.documents.chunking import ChunkingConfig
from rag.documents.formats import ReadingConfig
from rag.documents.reader import Reader
from rag.embedding_model import OFFLINE_MODEL, EmbeddingModel


@pytest.fixture(scope="module")
def tokenizer():
    return EmbeddingModel(OFFLINE_MODEL).tokenizer


@pytest.fixture
def reader(tokenizer):
    reader = Reader(ReadingConfig(timeout_s=20), ChunkingConfig(chunk_tokens=32), tokenizer)
    yield reader
    reader.close()
