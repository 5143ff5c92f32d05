"""Retrieval beside its peers: FAISS flat and hnswlib, sentence-transformers, one worker, and nothing but the parts.

    make bench-rag

200,000 distinct sentences of the installed packages' documentation, embedded once by the offline model and kept under
`.cache/bench/rag`. Peers take turns in each round, with as many threads; figures are medians over the rounds. Recall is
measured against exact search before anything is timed.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import httpx
import numpy as np

from benchmarks.engine import say
from benchmarks.outcome import Measure, publish
from benchmarks.rag_corpus import CACHE, HELD_OUT, INDEXED, sentences, vectors
from benchmarks.serving import COMMON, TRANSPORTS, Server
from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.ports import free_port
from rag.dense_index import DenseIndex, IndexingConfig
from rag.documents.chunking import Chunk
from rag.embedding import SentenceTransformerEmbedder
from rag.embedding_model import OFFLINE_MODEL, EmbeddingConfig, EmbeddingModel
from rag.indexed_documents import IndexedDocument
from rag.prompt import build_messages
from rag.search.query import Hit
from rag.snapshot import make_snapshot, write_snapshot

PACKAGES = Path(".cache/bench/rag-packages")
RECALL, K, BATCH, THREADS = 0.99, 10, 256, 2
EFFORTS = (60, 80, 100, 120, 140, 160, 200, 240, 320, 400)
Figures = dict[str, dict[str, list[float]]]
Search = Callable[[np.ndarray], Any]


def main() -> int:
    """Run the benchmark and print its outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    say("collecting and embedding sentences, once …")
    texts = sentences()
    stored = vectors(texts)
    found: Figures = defaultdict(lambda: defaultdict(list))
    measures: dict[str, Measure] = {}
    missing = measure_search(stored, arguments.rounds, found)
    measures |= search_outcome(found, missing)
    measures |= measure_embedding(texts[:1500], arguments.rounds, found)
    measures |= measure_restart(texts, stored)
    measures |= measure_indexing(texts)
    measures |= measure_overhead(arguments.rounds)
    packages = ["faiss-cpu", "sentence-transformers", "torch", "ray", "bm25s"]
    publish("rag", measures, packages, missing)
    return 0


# --- search ----------------------------------------------------------------------------------------------------


def measure_search(stored: np.ndarray, rounds: int, found: Figures) -> list[str]:
    """Compare searches at the least effort that reaches the recall; return the peers that are not here."""
    base, queries = stored[:INDEXED], stored[INDEXED : INDEXED + HELD_OUT].astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    flat = faiss.IndexFlatIP(base.shape[1])
    flat.add(base.astype(np.float32))
    faiss.omp_set_num_threads(THREADS)
    truth = flat.search(queries, K)[1]
    contestants: dict[str, tuple[Search, Search]] = {
        "faiss flat": (lambda query: flat.search(query[None], K), lambda many: flat.search(many, K))
    }
    begun = time.perf_counter()
    ours = DenseIndex.build(base, IndexingConfig(kind="hnsw"))
    say(f"ours built in {time.perf_counter() - begun:.0f} s with {THREADS} threads")

    def search_ours(effort: int) -> Callable[[np.ndarray], np.ndarray]:
        ours._settings = IndexingConfig(kind="hnsw", ef_search=effort)
        return lambda query: ours.search(query[None], K)[0][1]

    effort = least_effort("ours", search_ours, queries, truth)
    ours._settings = IndexingConfig(kind="hnsw", ef_search=effort)
    contestants["ours"] = (lambda query: ours.search(query[None], K), lambda many: ours.search(many, K))
    missing = []
    try:
        sys.path.append(str(PACKAGES))
        contestants["hnswlib"] = hnswlib_search(base, queries, truth)
    except ImportError:
        missing.append("hnswlib")
    for number in range(rounds):
        for name, (one, many) in contestants.items():
            faiss.omp_set_num_threads(1)
            asked = queries[: 100 if name == "faiss flat" else HELD_OUT]
            begun = time.perf_counter()
            for query in asked:
                one(query)
            note(found, number, "search", name, len(asked) / (time.perf_counter() - begun), "queries/s one at a time")
            faiss.omp_set_num_threads(THREADS)
            begun = time.perf_counter()
            many(queries[:BATCH])
            note(
                found, number, "batch", name, BATCH / (time.perf_counter() - begun), f"queries/s in batches of {BATCH}"
            )
    return missing


def hnswlib_search(base: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> tuple[Search, Search]:
    """Return hnswlib's search for one query and for many, at the least effort that reaches the recall."""
    import hnswlib

    peer = hnswlib.Index("ip", base.shape[1])
    peer.init_index(len(base), M=16, ef_construction=200)
    peer.set_num_threads(THREADS)
    begun = time.perf_counter()
    peer.add_items(base.astype(np.float32))
    say(f"hnswlib built in {time.perf_counter() - begun:.0f} s with {THREADS} threads")

    def search_peer(effort: int) -> Callable[[np.ndarray], np.ndarray]:
        peer.set_ef(effort)
        return lambda query: peer.knn_query(query[None], K)[0][0]

    peer.set_ef(least_effort("hnswlib", search_peer, queries, truth))
    return (
        lambda query: peer.knn_query(query[None], K, num_threads=1),
        lambda many: peer.knn_query(many, K, num_threads=THREADS),
    )


def least_effort(
    name: str, searcher: Callable[[int], Callable[[np.ndarray], np.ndarray]], queries: np.ndarray, truth: np.ndarray
) -> int:
    """Return the least effort with which the recall is reached."""
    for effort in EFFORTS:
        search = searcher(effort)
        shared = sum(len(set(search(query)) & set(real)) for query, real in zip(queries, truth, strict=True))
        recall = shared / truth.size
        say(f"{name}: recall@{K} {recall:.4f} with ef {effort}")
        if recall >= RECALL:
            return effort
    raise RuntimeError(f"{name} does not reach a recall of {RECALL}")


def search_outcome(found: Figures, missing: list[str]) -> dict[str, Measure]:
    """Return the measures of search."""
    measures = {}
    aims = {"ann_vs_flat_qps": ("faiss flat", 5.0), "ann_vs_hnswlib_qps": ("hnswlib", 1.0)}
    for name, (peer, aim) in aims.items():
        if peer not in missing:
            measures[name] = compared(found, "search", peer, aim)
            measures[f"{name}_batch_256"] = compared(found, "batch", peer, 1.0)
    return measures


# --- embedding -------------------------------------------------------------------------------------------------


def measure_embedding(texts: list[str], rounds: int, found: Figures) -> dict[str, Measure]:
    """Compare our embedder with plain `encode`, in float32 both, and in bfloat16 with its default."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(THREADS)
    peer = SentenceTransformer(str(EmbeddingModel(OFFLINE_MODEL).folder))
    ours = {
        dtype: SentenceTransformerEmbedder(EmbeddingConfig(dtype=dtype, threads=THREADS))
        for dtype in ("float32", "bfloat16")
    }
    reference = peer.encode(texts, normalize_embeddings=True)
    for dtype, embedder in ours.items():
        cosine = float((embedder.embed(texts) * reference).sum(axis=1).mean())
        say(f"mean cosine of ours in {dtype} and of sentence-transformers: {cosine:.5f}")
        if cosine < 0.999:
            raise RuntimeError(f"vectors in {dtype} are not those of sentence-transformers: {cosine}")
    work: dict[str, Callable[[], Any]] = {
        "sentence-transformers": lambda: peer.encode(texts, normalize_embeddings=True),
        **{dtype: (lambda embedder=embedder: embedder.embed(texts)) for dtype, embedder in ours.items()},
    }
    for number in range(rounds):
        for name, embed in work.items():
            begun = time.perf_counter()
            embed()
            note(found, number, "embedding", name, len(texts) / (time.perf_counter() - begun), "sentences/s")
    aims = {
        "embedding_same_dtype_vs_sentence_transformers": ("float32", 1.1),
        "embedding_bf16_vs_sentence_transformers": ("bfloat16", 1.5),
    }
    return {
        name: compared(found, "embedding", "sentence-transformers", aim, ours=dtype)
        for name, (dtype, aim) in aims.items()
    }


# --- snapshots and jobs ----------------------------------------------------------------------------------------


def measure_restart(texts: list[str], stored: np.ndarray, size: int = 100_000) -> dict[str, Measure]:
    """Start a retriever over a snapshot of so many chunks, in a process of its own."""
    store, cache = CACHE / "store", CACHE / "cache"
    repository = repository_from(StoreConfig(uri=str(store), cache=cache), {})
    if "restart" not in repository.names("index"):
        chunks = [
            Chunk(f"{row // 100}.txt", "Sentences", "", text, 0, len(text)) for row, text in enumerate(texts[:size])
        ]
        model = EmbeddingModel(OFFLINE_MODEL)
        snapshot = make_snapshot(chunks, stored[:size], (model.name, model.fingerprint), IndexingConfig())
        documents = [IndexedDocument(f"{n}.txt", "Sentences", "0" * 64, 100, (), None) for n in range(size // 100)]
        folder = CACHE / "snapshot"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_snapshot(snapshot, documents, folder)
        repository.publish("index", "restart", folder, {"chunks": size})
    version = repository.latest("index", "restart")
    on_disk = sum(entry.bytes for entry in repository.manifest(version).files.values()) / size
    runs = []
    for _ in range(3):
        command = [sys.executable, "-m", "benchmarks.rag_restart", str(store), str(cache), "restart"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
        say(f"restart: {runs[-1]}")
    seconds = statistics.median(run["seconds"] for run in runs)
    memory = statistics.median(run["memory_bytes"] for run in runs) / size
    vectors_alone = float(stored.shape[1] * 4)
    return {
        "restart_100k_s": Measure(seconds, 15, "lower", "s", seconds, {}),
        "bytes_per_chunk": Measure(memory, 3000, "lower", "bytes", memory, {
            "on disk": on_disk, "float32 vectors alone": vectors_alone,
        }),
    }  # fmt: skip


def measure_indexing(texts: list[str], documents: int = 80) -> dict[str, Measure]:
    """Build the same index with one worker and with two, each of one thread, actors' starts included."""
    folder = CACHE / "documents"
    if not folder.exists():
        folder.mkdir(parents=True)
        for number in range(documents):
            paragraphs = texts[number * 160 : (number + 1) * 160]
            body = "\n\n".join(" ".join(paragraphs[start : start + 8]) for start in range(0, 160, 8))
            (folder / f"{number:04d}.md").write_text(f"# Document {number}\n\n{body}\n")
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(2):
        for workers in rates:
            store = CACHE / f"indexing-{workers}"
            shutil.rmtree(store, ignore_errors=True)
            command = [
                sys.executable, "-m", "jobs.build_index", "--set", f"sources=[{folder}]", "--set", f"workers={workers}",
                "--set", f"store.uri={store}", "--set", f"store.cache={store}-cache",
            ]  # fmt: skip
            begun = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            rates[workers].append(documents / (time.perf_counter() - begun))
            say(f"index job with {workers} workers: {rates[workers][-1]:.2f} documents/s")
    one, two = (statistics.median(found) for found in rates.values())
    return {"index_docs_per_s_2_workers_vs_1": Measure(two / one, 1.5, "higher", "ratio", two, {"1 worker": one})}


# --- /rag ------------------------------------------------------------------------------------------------------


def measure_overhead(rounds: int) -> dict[str, Measure]:
    """Ask `/rag`, then `/predict` with the very same prompt, by each of two transports.

    `rag_overhead_ms` is what `/rag` takes beyond embedding, search and that `/predict`; `rag_all_overhead_ms` what it
    takes beyond embedding, search and the replica's own time, with HTTP, proxy and both calls between replicas in it.
    """
    store, cache = CACHE / "indexing-2", CACHE / "serving-cache"
    repository = repository_from(StoreConfig(uri=str(store), cache=cache), {})
    Aliases(repository, "index", "docs").promote("production", repository.latest("index", "docs").version)
    medians: dict[str, dict[str, float]] = {}
    for transport in ("python", "haproxy, optimized"):
        port = free_port()
        arguments = {
            "config": "app_local.yaml", "adapter": None, "store": {"uri": str(store), "cache": str(cache)},
            "engine": {"prefix_cache": False},
        }  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.serving_ours", str(port), json.dumps(arguments)]
        environment = {"PYTHONPATH": "platform:.", "RAY_USAGE_STATS_ENABLED": "0", **COMMON, **TRANSPORTS[transport]}
        server = Server(transport, command, port, "/health/ready", environment)
        try:
            medians[transport] = ask(server.url, 20 * rounds)
        finally:
            server.close()
        say(f"/rag over {transport}: {medians[transport]}")
    best, other = medians["haproxy, optimized"], medians["python"]
    return {
        name: Measure(best[key], 5, "lower", "ms", best[key], {"Python proxy": other[key]})
        for name, key in (("rag_overhead_ms", "beyond_predict"), ("rag_all_overhead_ms", "beyond_parts"))
    }


def ask(url: str, count: int) -> dict[str, float]:
    """Return medians in ms over answers."""
    found: dict[str, list[float]] = defaultdict(list)
    generation = {"max_new_tokens": 8, "temperature": 0.0}
    with httpx.Client(base_url=url, timeout=60) as client:
        for number in range(count + 10):
            question = f"How do I read file number {number}?"
            rag_ms, answer = timed(client, "/rag", {"question": question, "top_k": 2, **generation})
            hits = [
                Hit(Chunk(s["document"], s["title"], s["heading"], s["text"], *s["span"]), s["chunk"], s["score"])
                for s in answer["sources"]
            ]
            (prompt,) = build_messages(question, hits)
            predict_ms, same = timed(client, "/predict", {"prompt": prompt.content, **generation})
            assert same["usage"] == answer["usage"], "the prompts differ"
            timings = answer["timings"]
            searched = timings["embed_ms"] + timings["search_ms"]
            if number >= 10:
                found["whole"].append(rag_ms)
                found["embed_and_search"].append(searched)
                found["beyond_predict"].append(rag_ms - searched - predict_ms)
                found["beyond_parts"].append(rag_ms - searched - timings["generate_ms"])
                found["way_to_the_retriever"].append(timings["retrieve_ms"] - searched)
                found["prompt"].append(timings["prompt_ms"])
    return {name: round(statistics.median(values), 2) for name, values in found.items()}


def timed(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Return the milliseconds of a request, and its answer."""
    begun = time.perf_counter()
    response = client.post(path, json=body)
    took = (time.perf_counter() - begun) * 1000
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return took, answer


def compared(found: Figures, what: str, peer: str, aim: float, ours: str = "ours") -> Measure:
    """Return the median of the ratios of rounds."""
    own, other = found[what][ours], found[what][peer]
    ratio = statistics.median(a / b for a, b in zip(own, other, strict=True))
    return Measure(ratio, aim, "higher", "ratio", statistics.median(own), {peer: statistics.median(other)})


def note(found: Figures, number: int, what: str, name: str, value: float, unit: str) -> None:
    """Keep a figure and say it."""
    found[what][name].append(value)
    say(f"round {number + 1}: {name} {value:,.1f} {unit}")


if __name__ == "__main__":
    sys.exit(main())
