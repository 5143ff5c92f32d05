r"""Measures how well an index finds what answers labelled questions, in each mode.

    python -m jobs.evaluate_retrieval --set index=docs@production --set questions=questions.jsonl

Questions are JSON lines of `question` with `document` (an id) or `text` (that a chunk must hold), or JSON in the form
of SQuAD. Without an index, the paragraphs of a SQuAD file are what is searched. A table is printed; `output` gets
`retrieval.json` and `retrieval.png`.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from rich.console import Console
from rich.table import Table

from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.artifacts.refs import resolve
from llama_platform.charts import new_chart, png
from llama_platform.cli.exit_codes import run_command
from llama_platform.cli.job_arguments import parse_job_args
from llama_platform.config import Config
from llama_platform.errors import ConfigError
from llama_platform.logs import setup_logging
from rag.dense_index import IndexingConfig
from rag.documents.chunking import ChunkingConfig
from rag.documents.sandbox import make_cutter
from rag.embedding import Embedder
from rag.embedding_model import EmbeddingConfig
from rag.search.evaluation import Quality, Questions, evaluate, read_questions
from rag.search.query import DENSE_WEIGHT, Hit, Mode, Query
from rag.search.retriever import Retriever
from rag.snapshot import Snapshot, make_snapshot, read_snapshot

FEW = 50
"""Questions below which a weight is named with a warning."""


class RetrievalEvaluation(Config):
    """What is measured."""

    questions: Path
    """JSON lines, or JSON in the form of SQuAD."""
    index: str | None = None
    """`name`, `name@alias` or `name@3`; None for the paragraphs of the SQuAD file themselves."""
    cutoffs: Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(min_length=1)] = (1, 3, 5, 10)
    """The k of recall@k; MRR and nDCG count as far as the largest."""
    output: Path = Path("retrieval")
    """Folder for the figures and the plot."""
    store: StoreConfig = StoreConfig()
    """Where artifacts are, and this node's cache of them."""
    embedding: EmbeddingConfig = EmbeddingConfig()
    """The model that embeds texts for the search."""
    chunking: ChunkingConfig = ChunkingConfig()
    """Of a SQuAD file's paragraphs."""
    rerank: str | None = None
    """A cross-encoder, by hub name or folder."""
    dense_weight: Annotated[float, Field(ge=0, le=1)] = DENSE_WEIGHT
    """Weight of meaning against words in the mode `hybrid`."""
    tune: bool = False
    """Whether every weight in steps of 0.1 is tried, too, and the one with the best MRR named."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""

    def command() -> None:
        config = parse_job_args(RetrievalEvaluation, __doc__ or "", argv)
        setup_logging()
        found = read_questions(config.questions)
        from rag.embedding import SentenceTransformerEmbedder

        embedder = SentenceTransformerEmbedder(config.embedding)
        label, snapshot = _snapshot(config, found, embedder)
        results = evaluate(found.questions, _searcher(config, snapshot, embedder), sorted(config.cutoffs))
        Console().print(_table(f"{label}, {len(found.questions)} questions", results))
        config.output.mkdir(parents=True, exist_ok=True)
        figures = {mode: asdict(quality) for mode, quality in results.items()}
        report: dict[str, Any] = {"index": label, "questions": len(found.questions), "modes": figures}
        if config.tune:
            report["dense_weight"] = _tuned(config, found, snapshot, embedder)
        (config.output / "retrieval.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        plot(results, label, config.output / "retrieval.png")
        print(f"figures and plot in {config.output}")

    return run_command(command)


def _tuned(
    config: RetrievalEvaluation, found: Questions, snapshot: Snapshot, embedder: Embedder
) -> dict[str, dict[str, float]]:
    """Print the quality of `hybrid` by the weight of meaning, and return it."""
    cutoffs, figures = sorted(config.cutoffs), {}
    table = Table("dense_weight", *(f"recall@{k}" for k in cutoffs), "MRR", title="hybrid by the weight of meaning")
    for step in range(11):
        tried = config.model_copy(update={"dense_weight": step / 10})
        quality = evaluate(found.questions, _searcher(tried, snapshot, embedder), cutoffs, modes=("hybrid",))["hybrid"]
        figures[f"{step / 10:g}"] = {f"recall@{k}": value for k, value in quality.recall.items()} | {"mrr": quality.mrr}
        table.add_row(f"{step / 10:g}", *(f"{value:.3f}" for value in figures[f"{step / 10:g}"].values()))
    Console().print(table)
    best = max(figures, key=lambda weight: figures[weight]["mrr"])
    few = "" if len(found.questions) >= FEW else f"; of {len(found.questions)} questions, that may be chance"
    print(f"best: rag.dense_weight={best} (now {config.dense_weight:g}){few}")
    return figures


def _snapshot(config: RetrievalEvaluation, found: Questions, embedder: Embedder) -> tuple[str, Snapshot]:
    if config.index is not None:
        repository = repository_from(config.store, os.environ)
        version = resolve(repository, "index", config.index, "evaluation")
        with repository.fetched(version) as folder:
            return f"{version.name}@{version.version}", read_snapshot(folder)
    if not found.documents:
        raise ConfigError("index: name one; only files in the form of SQuAD hold the texts that are asked about")
    from rag.embedding_model import EmbeddingModel

    cut = make_cutter(config.chunking, EmbeddingModel(config.embedding.model).tokenizer)
    chunks = [chunk for document in found.documents for chunk in cut(document).chunks]
    vectors = embedder.embed([chunk.embedded_text() for chunk in chunks]).astype(np.float16)
    made = make_snapshot(chunks, vectors, (embedder.name, embedder.fingerprint), IndexingConfig(kind="flat"))
    return config.questions.name, made


def _searcher(
    config: RetrievalEvaluation, snapshot: Snapshot, embedder: Embedder
) -> Callable[[str, Mode], Sequence[Hit]]:
    reranker = None
    if config.rerank is not None:
        from rag.search.reranking import CrossEncoderReranker

        reranker = CrossEncoderReranker(config.rerank)
    retriever = Retriever(snapshot, (embedder.name, embedder.fingerprint), reranker)
    k = max(config.cutoffs)
    vectors: dict[str, np.ndarray] = {}

    def search(question: str, mode: Mode) -> Sequence[Hit]:
        if question not in vectors:
            vectors[question] = embedder.embed([question])[0]
        query = Query(question, k, mode, dense_weight=config.dense_weight)
        return retriever.search(query, vectors[question]).hits

    return search


def _table(title: str, results: dict[Mode, Quality]) -> Table:
    table = Table(title=title)
    first = next(iter(results.values()))
    for column in ("mode", *(f"recall@{k}" for k in first.recall), "MRR", "nDCG"):
        table.add_column(column, justify="left" if column == "mode" else "right")
    for mode, found in results.items():
        figures = (*found.recall.values(), found.mrr, found.ndcg)
        table.add_row(mode, *(f"{figure:.3f}" for figure in figures))
    return table


def plot(results: dict[Mode, Quality], label: str, path: Path) -> None:
    """Draw recall over k for each mode."""
    figure, axes = new_chart(f"Retrieval from {label}")
    for mode, found in results.items():
        axes.plot(list(found.recall), list(found.recall.values()), marker="o", label=mode)
    axes.set(xlabel="k", ylabel="recall@k", ylim=(0, 1.02))
    axes.set_xticks(list(next(iter(results.values())).recall))
    axes.grid(alpha=0.3)
    axes.legend()
    path.write_bytes(png(figure))


if __name__ == "__main__":
    sys.exit(main())
