"""Building an index: documents to chunks to vectors to a committed snapshot."""

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from llama_platform.artifacts.location import StoreConfig
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.config import Config
from llama_platform.errors import ConfigError, InputError
from rag.chunking import Chunk, split_document
from rag.documents import DocumentSet, load_documents
from rag.embedding import Embedder, EmbeddingConfig, Vectors
from rag.snapshot import Snapshot, write_snapshot


class IndexConfig(Config):
    """Which documents become an index, and how."""

    store: StoreConfig = StoreConfig()
    name: str = "docs"
    """Name of the index artifact."""
    sources: tuple[str, ...] = ()
    """Files and folders."""
    chunk_tokens: Annotated[int, Field(ge=16)] = 200
    """Tokens of a chunk's text at most, by the embedding model's tokenizer."""
    overlap_tokens: Annotated[int, Field(ge=0)] = 30
    """How much of its predecessor a piece of a long paragraph repeats at most."""
    embedding: EmbeddingConfig = EmbeddingConfig()


def build_index(
    repository: ArtifactRepository, config: IndexConfig, embedder: Embedder, on_progress: Callable[[int, int], None]
) -> tuple[ArtifactVersion, DocumentSet]:
    """Index the configured documents and commit the snapshot; return its version and what was read.

    Args:
        repository: where it is committed.
        config: sources and sizes.
        embedder: of `config.embedding`.
        on_progress: called with (chunks embedded, chunks in all).

    Raises:
        InputError: there are no readable documents.
        ConfigError: chunks would be longer than the embedding model reads.
    """
    if config.chunk_tokens > embedder.max_tokens:
        raise ConfigError(
            f"chunk_tokens: {config.chunk_tokens} is more than the {embedder.max_tokens} tokens that "
            f"'{embedder.name}' reads; set chunk_tokens to at most that"
        )
    found = load_documents(config.sources)
    chunks = [
        chunk
        for document in found.documents
        for chunk in split_document(document, config.chunk_tokens, config.overlap_tokens, embedder.count_tokens)
    ]
    if not chunks:
        raise InputError(
            f"no text below the headings of {len(found.documents)} documents in {', '.join(config.sources)}"
        )
    snapshot = Snapshot(chunks, _embed(embedder, chunks, config, on_progress), embedder.name)
    with tempfile.TemporaryDirectory() as scratch:
        write_snapshot(snapshot, Path(scratch))
        return repository.publish("index", config.name, Path(scratch), _lineage(config, found, chunks)), found


def _embed(
    embedder: Embedder, chunks: list[Chunk], config: IndexConfig, on_progress: Callable[[int, int], None]
) -> Vectors:
    # Large groups: the model sorts each by length and so computes little padding.
    size = config.embedding.batch_size * 16
    parts = []
    for start in range(0, len(chunks), size):
        parts.append(embedder.embed([chunk.embedded_text() for chunk in chunks[start : start + size]]))
        on_progress(min(start + size, len(chunks)), len(chunks))
    return np.concatenate(parts)


def _lineage(config: IndexConfig, found: DocumentSet, chunks: list[Chunk]) -> dict[str, Any]:
    counts = Counter(chunk.document for chunk in chunks)
    return {
        "documents": {doc.id: {"sha256": doc.sha256, "chunks": counts[doc.id]} for doc in found.documents},
        "skipped": {item.id: item.reason for item in found.skipped},
        "chunks": len(chunks),
        "settings": config.model_dump(mode="json", exclude={"store", "sources"}),
    }
