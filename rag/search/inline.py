"""Inline documents: an index of what came with one question, gone with its answer."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from llama_platform.errors import InputError
from rag.dense_index import IndexingConfig
from rag.documents.document import Document
from rag.documents.sandbox import Cutter
from rag.embedding import Embedder, Vectors
from rag.search.query import Query, SearchResult
from rag.search.reranking import Reranker
from rag.search.retriever import Retriever
from rag.snapshot import make_snapshot

MAX_CHUNKS = 256


def search_inline(
    query: Query,
    vector: Vectors,
    documents: Sequence[Document],
    cut: Cutter,
    embedder: Embedder,
    reranker: Reranker | None = None,
    judged: Vectors | None = None,
) -> SearchResult:
    """Return the best chunks of documents; filters do not apply to them.

    Args:
        query: what is asked.
        vector: float32 [dimensions] or [parts, dimensions], the question's.
        documents: documents to search.
        cut: makes chunks of them.
        embedder: the embedder that made the question's vector.
        reranker: judges the best of what was found, where there is one.
        judged: vectors of what scores are of; None for the question.

    Raises:
        InputError: the documents are too long together.
    """
    chunks = [chunk for document in documents for chunk in cut(document).chunks]
    if not chunks:
        return SearchResult([])
    if len(chunks) > MAX_CHUNKS:
        raise InputError(f"documents: {len(chunks)} chunks, over the limit of {MAX_CHUNKS}; index them instead")
    vectors = embedder.embed([chunk.embedded_text() for chunk in chunks]).astype(np.float16)
    embedding = (embedder.name, embedder.fingerprint)
    snapshot = make_snapshot(chunks, vectors, embedding, IndexingConfig(kind="flat"))
    return Retriever(snapshot, embedding, reranker).search(replace(query, filters=None), vector, judged)
