"""A retriever's start in a process of its own, for `benchmarks.rag`: prints its seconds, and the memory of the index.

python -m benchmarks.rag_restart STORE CACHE INDEX
"""

import json
import sys
import time

STARTED = time.monotonic()


def main() -> int:
    """Load model and snapshot, answer one question, and print figures as JSON."""
    import os
    from pathlib import Path

    import psutil

    from llama_platform.artifacts.location import StoreConfig, repository_from
    from rag.embedding import SentenceTransformerEmbedder
    from rag.embedding_model import EmbeddingConfig
    from rag.search.query import Query
    from rag.search.retriever import Retriever
    from rag.snapshot import read_snapshot

    store, cache, index = sys.argv[1:]
    repository = repository_from(StoreConfig(uri=store, cache=Path(cache)), os.environ)
    embedder = SentenceTransformerEmbedder(EmbeddingConfig(threads=1))
    vector = embedder.embed(["How do I start?"])[0]
    before = psutil.Process().memory_info().rss
    with repository.fetched(repository.latest("index", index)) as folder:
        snapshot = read_snapshot(folder)
    found = Retriever(snapshot, (embedder.name, embedder.fingerprint)).search(Query("How do I start?"), vector)
    assert len(found.hits) == 4
    grown = psutil.Process().memory_info().rss - before
    print(json.dumps({"seconds": time.monotonic() - STARTED, "memory_bytes": grown, "chunks": len(snapshot.chunks)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
