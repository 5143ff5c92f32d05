"""Workers: reading and embedding, on a cluster by Ray Data, or in this process."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from llama_platform.device import assigned_device
from rag.documents.document import Skipped
from rag.documents.reader import Reader
from rag.documents.sandbox import CutDocument
from rag.documents.sources import SourceFile
from rag.embedding import Embedder, SentenceTransformerEmbedder, Vectors
from rag.embedding_model import EmbeddingModel
from rag.indexing.build import IndexConfig
from rag.indexing.changes import QUEUED

TEXTS_PER_BLOCK = 128
DOCUMENTS_PER_BLOCK = 256
MOST_BLOCKS = 4096


class LocalWorkers:
    """Everything in this process; for what is too little to be spread."""

    def __init__(self, config: IndexConfig, embedder: Embedder) -> None:
        """Use an embedder that is loaded."""
        self._config, self._embedder = config, embedder

    def read(self, files: Sequence[SourceFile]) -> Iterator[CutDocument | Skipped]:
        """Read file after file; see Workers."""
        reader = _reader(self._config)
        try:
            for file in files:
                yield from reader.read(file)
        finally:
            reader.close()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed here; see Workers."""
        return self._embedder.embed(texts)


class RayWorkers:
    """Ray Data's actors, as many as the configuration says and the cluster has room for; Ray must be connected."""

    def __init__(self, config: IndexConfig, on_progress: Callable[[str], None]) -> None:
        """Start nothing yet; `on_progress` is told when the cluster has no room for the workers."""
        self._config, self._on_progress = config, on_progress

    def read(self, files: Sequence[SourceFile]) -> Iterator[CutDocument | Skipped]:
        """Read files in parallel; see Workers."""
        if files:
            for row in self._map(FileReader, [asdict(file) for file in files], 1, num_gpus=0):
                yield row["found"]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed in parallel; see Workers."""
        # Texts of like length together: each block then holds little padding.
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        rows = [{"row": row, "text": texts[row]} for row in order]
        vectors: Vectors | None = None
        for found in self._map(TextEmbedder, rows, TEXTS_PER_BLOCK, num_gpus=self._config.num_gpus):
            if vectors is None:
                vectors = np.empty((len(texts), len(found["vector"])), dtype=np.float32)
            vectors[found["row"]] = found["vector"]
        assert vectors is not None, "nothing to embed"
        return vectors

    def _map(self, actor: type, rows: list[dict[str, Any]], batch_size: int, num_gpus: float) -> Iterator[Any]:
        import ray.data

        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        config = self._config
        blocks = max(1, min(len(rows) // batch_size, MOST_BLOCKS))
        workers = min(config.workers, blocks)
        # One is enough to go on with; the others start at once too, if there is room, and none hoards blocks.
        pool = ray.data.ActorPoolStrategy(
            min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=2
        )
        found = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            actor, fn_constructor_args=(config.model_dump(mode="json"),), batch_size=batch_size, batch_format="numpy",
            compute=pool, num_cpus=config.num_cpus, num_gpus=num_gpus or None,
        )  # fmt: skip
        waits = self._say_what_is_missing(num_gpus)
        for row in found.iter_rows():
            if waits:
                self._on_progress("the workers have started")
                waits = False
            yield row

    def _say_what_is_missing(self, num_gpus: float) -> bool:
        """Tell which resources a worker waits for; return whether it does."""
        import ray

        free = ray.available_resources()
        wanted = {"CPU": self._config.num_cpus, "GPU": num_gpus}
        missing = [
            f"{amount:g} {kind}s, {free.get(kind, 0):g} are free"
            for kind, amount in wanted.items()
            if free.get(kind, 0) < amount
        ]
        if missing:
            self._on_progress(f"{QUEUED} {'; '.join(missing)}")
        return bool(missing)


class FileReader:
    """An actor that reads files."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Load the tokenizer.

        Args:
            config: IndexConfig as JSON.
        """
        self._reader = _reader(IndexConfig.model_validate(config))

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield what is found in a batch of files."""
        block: list[CutDocument | Skipped] = []
        for name, root, key in zip(batch["id"], batch["root"], batch["key"], strict=True):
            for found in self._reader.read(SourceFile(str(name), str(root), str(key))):
                block.append(found)
                if len(block) == DOCUMENTS_PER_BLOCK:
                    yield {"found": _objects(block)}
                    block = []
        if block:
            yield {"found": _objects(block)}


class TextEmbedder:
    """An actor that embeds texts."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Load the model.

        Args:
            config: IndexConfig as JSON.
        """
        parsed = IndexConfig.model_validate(config)
        threads = {"threads": parsed.embedding.threads or max(1, int(parsed.num_cpus))}
        self._embedder = SentenceTransformerEmbedder(
            parsed.embedding.model_copy(update=threads), str(assigned_device())
        )

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Embed a batch of texts."""
        return {"row": batch["row"], "vector": self._embedder.embed(list(batch["text"]))}


def _reader(config: IndexConfig) -> Reader:
    return Reader(config.reading, config.chunking, EmbeddingModel(config.embedding.model).tokenizer)


def _objects(found: list[CutDocument | Skipped]) -> Any:
    objects = np.empty(len(found), dtype=object)
    objects[:] = found
    return objects
