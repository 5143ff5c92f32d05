"""Our served application beside `vllm serve` and `transformers serve` on a CPU, and beside our engine in process.

    make bench-serving

A Llama of 134 M parameters with random weights, bfloat16, two threads each; prompts of 64 tokens, answers of 64,
streamed by 1, 4 and 16 clients through `/v1/completions`. All servers run at once and take turns; figures are medians
over the rounds. Ours is measured with each of Ray's transports: its Python proxy and HAProxy, each with and without
`RAY_SERVE_THROUGHPUT_OPTIMIZED`. Every answer's tokens are counted.
"""

import argparse
import asyncio
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.engine import CACHE, VLLM_PYTHON, Contestant, Prompts, say
from benchmarks.engine_models import SHAPES, build_model
from benchmarks.outcome import Measure, publish
from llama_platform.ports import free_port

PROMPT, NEW = 64, 64
CLIENTS = {1: 4, 4: 2, 16: 2}
"""Clients, and how many answers each asks for, one after another."""
TRANSPORTS = {
    "python": {},
    "haproxy": {"RAY_SERVE_ENABLE_HA_PROXY": "1"},
    "python, optimized": {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"},
    "haproxy, optimized": {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"},
}
ENGINE = {"max_running": 24, "max_waiting": 64, "kv_cache_mib": 1024, "prefix_cache": False}
STORE = CACHE / "serving-store"
Figures = dict[str, dict[str, list[float]]]
_TOKEN = re.compile(rb"w\d+")


def main() -> int:
    """Run the benchmark and print its outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--transports", nargs="+", choices=list(TRANSPORTS), default=list(TRANSPORTS))
    arguments = parser.parse_args()
    model = build_model("134m", CACHE)
    found: Figures = defaultdict(lambda: defaultdict(list))
    missing: list[str] = []
    engine = Contestant("ours", model)
    try:
        for transport in arguments.transports:
            measure_transport(transport, model, engine, arguments.rounds, found)
    finally:
        engine.close()
    best = max(arguments.transports, key=lambda name: statistics.median(found[f"share, {name}"]["ours"]))
    say(f"-- peers, beside ours with {best}")
    measure_peers(best, model, arguments.rounds, found, missing)
    measures = outcome(found, best, arguments.transports)
    publish("serving", measures, ["ray", "torch", "transformers", "fastapi"], missing)
    return 0


# --- servers -----------------------------------------------------------------------------------------------------


class Server:
    """A process that answers HTTP on a port of this machine."""

    def __init__(self, name: str, command: list[str], port: int, ready: str, environment: dict[str, str]) -> None:
        """Start it and wait until `ready`, a path, is answered with 200."""
        self.name, self.url = name, f"http://127.0.0.1:{port}"
        self._log = (CACHE / f"server-{name.replace(', ', '-')}.log").open("w")
        self._process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log, text=True,
        )  # fmt: skip
        self.start_s: float | None = None
        if name not in PEERS:
            assert self._process.stdout is not None
            line = next((line for line in self._process.stdout if line.startswith("{")), None)
            if line is None:
                raise RuntimeError(f"{name} ended; see {self._log.name}")
            self.start_s = json.loads(line)["ready"]
            return
        self._wait(ready)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self.name in PEERS:
            self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()

    def _wait(self, path: str) -> None:
        import urllib.request

        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with suppress(OSError):
                if urllib.request.urlopen(self.url + path, timeout=2).status == 200:  # noqa: S310 - loopback
                    return
            time.sleep(0.5)
        self._process.kill()
        raise RuntimeError(f"{self.name} did not start; see {self._log.name}")


PEERS = ("vllm serve", "transformers serve")
COMMON = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}


def start_ours(transport: str, model: Path) -> Server:
    """Start our application with one of Ray's transports."""
    from llama_platform.models.adapter_transfer import import_adapter

    shutil.rmtree(STORE, ignore_errors=True)
    repository = _repository()
    for number in (0, 1):
        import_adapter(repository, "bench", str(model / f"adapter{number}"), "plain")
    port = free_port()
    arguments = {
        "base": {"model": str(model), "dtype": "bfloat16", "prompt_style": "plain"},
        "store": {"uri": str(STORE / "root"), "cache": str(STORE / "cache")},
        "engine": ENGINE,
        "llama": {"num_cpus": 0.5, "threads": 2},
        "retriever": {"num_cpus": 0.1},
    }
    command = [sys.executable, "-m", "benchmarks.serving_ours", str(port), json.dumps(arguments)]
    environment = {"PYTHONPATH": "platform:.", "RAY_USAGE_STATS_ENABLED": "0", **COMMON, **TRANSPORTS[transport]}
    return Server(transport, command, port, "/health/ready", environment)


def start_peer(name: str, model: Path) -> Server:
    """Start a peer."""
    port = free_port()
    if name == "vllm serve":
        command = [
            str(VLLM_PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--port", str(port),
            "--host", "127.0.0.1", "--dtype", "bfloat16", "--max-model-len", "2048", "--max-num-seqs", "24",
            "--no-enable-prefix-caching", "--served-model-name", "base", "--disable-log-stats",
            "--kv-cache-memory-bytes", str(2**30),
        ]  # fmt: skip
        extra = {"VLLM_CPU_OMP_THREADS_BIND": "0-1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
        return Server(name, command, port, "/health", COMMON | extra)
    command = [
        str(Path(sys.executable).parent / "transformers"), "serve", str(model), "--port", str(port),
        "--host", "127.0.0.1", "--dtype", "bfloat16", "--device", "cpu", "--continuous-batching",
        "--cb-block-size", "32", "--cb-num-blocks", "256", "--cb-max-batch-tokens", "1024",
    ]  # fmt: skip
    return Server(name, command, port, "/health", COMMON)


def _repository() -> Any:
    from llama_platform.artifacts.location import StoreConfig, repository_from

    return repository_from(StoreConfig(uri=str(STORE / "root"), cache=STORE / "cache"), {})


# --- load --------------------------------------------------------------------------------------------------------


async def stream(
    session: aiohttp.ClientSession, url: str, model: str, prompt: list[int], new: int
) -> tuple[list[float], int]:
    """Stream one answer; return when its pieces came, in seconds since it was asked for, and its tokens."""
    body = {
        "model": model, "prompt": " ".join(f"w{token}" for token in prompt), "max_tokens": new, "temperature": 0,
        "stream": True,
    }  # fmt: skip
    if model == "base":  # transformers serve has no such field, and refuses unknown ones
        body["ignore_eos"] = True
    start, content = time.perf_counter(), b""
    times: list[float] = []
    begun = 0.0
    async with session.post(f"{url}/v1/completions", json=body) as response:
        if response.status != 200:
            raise RuntimeError(f"{url} answered {response.status}: {(await response.text())[:300]}")
        async for piece in response.content.iter_any():
            begun = begun or time.perf_counter() - start
            # Before the first token a server may send a chunk without text.
            if times or _TOKEN.search(piece.split(b'"text"', 1)[-1]):
                times.append(time.perf_counter() - start)
            content += piece
    texts = re.findall(rb'"text": ?"([^"]*)"', content)
    tokens = len(_TOKEN.findall(b"".join(texts)))
    if not tokens and re.search(rb'"finish_reason": ?"length"', content):
        return [begun], new  # random weights may choose special tokens, which have no text, for ever
    return times or [begun], tokens


async def load(url: str, model: str, clients: int, each: int, prompts: Prompts) -> dict[str, Any]:
    """Have clients stream answers; return tokens/s, times to first token and gaps between pieces."""
    asked = [[prompts.make(1, PROMPT)[0] for _ in range(each)] for _ in range(clients)]
    first: list[float] = []
    gaps: list[float] = []
    tokens = 0
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(300)) as session:

        async def client(mine: list[list[int]]) -> None:
            nonlocal tokens
            for prompt in mine:
                times, count = await stream(session, url, model, prompt, NEW)
                first.append(times[0])
                gaps.extend(b - a for a, b in itertools.pairwise(times))
                tokens += count

        start = time.perf_counter()
        await asyncio.gather(*(client(mine) for mine in asked))
        seconds = time.perf_counter() - start
    if tokens < 0.98 * clients * each * NEW:
        raise RuntimeError(f"{url} gave {tokens} of {clients * each * NEW} tokens")
    return {"rate": tokens / seconds, "first": first, "gaps": gaps}


def ask(url: str, clients: int, each: int, prompts: Prompts, model: str = "base") -> dict[str, Any]:
    """Run a load to its end."""
    return asyncio.run(load(url, model, clients, each, prompts))


# --- measurements ------------------------------------------------------------------------------------------------


def measure_transport(transport: str, model: Path, engine: Contestant, rounds: int, found: Figures) -> None:
    """Measure what HTTP costs: tokens/s beside the engine in process, gaps, and the time to the first token."""
    say(f"-- {transport}")
    server, prompts = start_ours(transport, model), Prompts(SHAPES["134m"]["vocab_size"])
    try:
        for number in range(rounds + 1):
            served = ask(server.url, 16, 2, prompts)
            batches = [prompts.make(16, PROMPT) for _ in range(2)]
            seconds = sum(engine.ask("generate", prompts=batch, new=NEW)["seconds"] for batch in batches)
            in_process = 32 * NEW / seconds
            note(found, number, f"share, {transport}", "ours", served["rate"] / in_process)
            note(found, number, f"http, {transport}", "ours", served["rate"])
            note(found, number, f"in process, {transport}", "ours", in_process)
            note(found, number, f"gap p99 ms, {transport}", "ours", 1000 * percentile(served["gaps"], 0.99))
            pairs = asyncio.run(first_tokens(server.url, 12, prompts))
            note(found, number, f"added ttft ms, {transport}", "ours", statistics.median(a for a, _ in pairs))
            note(found, number, f"echo ms, {transport}", "ours", statistics.median(e for _, e in pairs))
        found["start"]["ours"].append(server.start_s or 0.0)
        for version in (1, 2, 1):
            note(found, 1, "promote", "ours", promote(server.url, version, prompts))
    finally:
        server.close()


async def first_tokens(url: str, count: int, prompts: Prompts) -> list[tuple[float, float]]:
    """Return pairs, in milliseconds: the time to the first token beyond the engine's own and beyond an echo; the echo.

    The engine's own time to the first token is told by the answer itself, so that all three are of the same moment.
    """
    pairs = []
    async with aiohttp.ClientSession() as session:
        for _ in range(count):
            prompt = " ".join(f"w{token}" for token in prompts.make(1, PROMPT)[0])
            body = {"prompt": prompt, "max_new_tokens": 8, "temperature": 0, "stream": True}
            whole, content = await _first_piece(session, f"{url}/predict", body)
            done = json.loads(content.split(b"event: done\ndata: ")[1].split(b"\n")[0])
            echo, _ = await _first_piece(session, f"{url}/echo/v1/completions", {"prompt": prompt})
            pairs.append((whole - done["timings"]["first_token_ms"] - echo, echo))
    return pairs


async def _first_piece(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> tuple[float, bytes]:
    start = time.perf_counter()
    async with session.post(url, json=body) as response:
        content = await response.content.readany()
        milliseconds = 1000 * (time.perf_counter() - start)
        return milliseconds, content + await response.read()


def promote(url: str, version: int, prompts: Prompts) -> float:
    """Return the seconds from a promotion to the first answer of the promoted version."""
    import urllib.request

    from llama_platform.artifacts.aliases import Aliases

    start = time.perf_counter()
    Aliases(_repository(), "adapter", "bench").promote("production", version)
    body = json.dumps({"prompt": "w5", "adapter": "bench", "max_new_tokens": 1}).encode()
    while True:
        request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "application/json"})  # noqa: S310
        with suppress(OSError):
            if json.load(urllib.request.urlopen(request, timeout=30))["model"]["version"] == version:  # noqa: S310
                return time.perf_counter() - start
        time.sleep(0.02)


def measure_peers(transport: str, model: Path, rounds: int, found: Figures, missing: list[str]) -> None:
    """Measure throughput and time to first token of all servers, at 1, 4 and 16 clients."""
    prompts, servers = Prompts(SHAPES["134m"]["vocab_size"]), {"ours": start_ours(transport, model)}
    for name in PEERS:
        try:
            servers[name] = start_peer(name, model)
        except (RuntimeError, OSError) as error:
            say(f"{name} cannot run: {error}")
            missing.append(name)
    try:
        for number in range(rounds + 1):
            for clients, each in CLIENTS.items():
                for name, server in servers.items():
                    named = str(model) if name == "transformers serve" else "base"
                    answered = ask(server.url, clients, 1 if number == 0 else each, prompts, named)
                    note(found, number, f"throughput c{clients}", name, answered["rate"])
                    note(found, number, f"ttft p50 c{clients}", name, 1000 * percentile(answered["first"], 0.5))
                    note(found, number, f"ttft p99 c{clients}", name, 1000 * percentile(answered["first"], 0.99))
    finally:
        for server in servers.values():
            server.close()


def percentile(values: list[float], share: float) -> float:
    """Return the value below which a share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def note(found: Figures, number: int, what: str, name: str, value: float) -> None:
    """Keep a figure, unless it is of the round that warms up."""
    if number:
        found[what][name].append(value)
        say(f"round {number}: {what:30} {name:20} {value:10.2f}")


# --- outcome -----------------------------------------------------------------------------------------------------


def outcome(found: Figures, best: str, transports: list[str]) -> dict[str, Measure]:
    """Return the measures from the medians of the rounds."""
    medians = {what: {n: statistics.median(v) for n, v in by_name.items()} for what, by_name in found.items()}
    measures: dict[str, Measure] = {}

    def own(name: str, what: str, aim: float, better: Any, unit: str) -> None:
        peers = {transport: medians[f"{what}, {transport}"]["ours"] for transport in transports}
        value = medians[f"{what}, {best}"]["ours"]
        measures[name] = Measure(value, aim, better, unit, value, {f"with {t}": v for t, v in peers.items()})

    own("sse_vs_in_process", "share", 0.9, "higher", "ratio")
    own("chunk_gap_p99_ms", "gap p99 ms", 100, "lower", "ms")
    own("added_ttft_over_echo_ms", "added ttft ms", 3, "lower", "ms")
    for clients in CLIENTS:
        ending = "" if clients == 16 else f"_c{clients}"
        for peer in PEERS:
            label = peer.replace(" ", "_")
            rates, firsts = medians[f"throughput c{clients}"], medians[f"ttft p50 c{clients}"]
            if peer in rates:
                measures[f"throughput_vs_{label}{ending}"] = Measure(
                    rates["ours"] / rates[peer], 1, "higher", "ratio", rates["ours"], {peer: rates[peer]}
                )
                measures[f"ttft_p50_vs_{label}{ending}"] = Measure(
                    firsts["ours"] / firsts[peer], 1, "lower", "ratio", firsts["ours"], {peer: firsts[peer]}
                )
                late = medians[f"ttft p99 c{clients}"]
                measures[f"ttft_p99_vs_{label}{ending}"] = Measure(
                    late["ours"] / late[peer], 1, "lower", "ratio", late["ours"], {peer: late[peer]}
                )
    promoted, start = medians["promote"]["ours"], medians["start"]["ours"]
    measures["promote_to_first_answer_s"] = Measure(promoted, 5, "lower", "s", promoted, {})
    measures["start_to_ready_s"] = Measure(start, 60, "lower", "s", start, {})
    return measures


if __name__ == "__main__":
    sys.exit(main())
