"""Our engine beside transformers, vLLM and llama.cpp on a CPU: decoding, prefill, mixed load, adapters, memory.

    make bench-engine

Models of 134 M and 360 M parameters with random weights, bfloat16, two threads each. Every contestant is a process that
loads once and waits for its turn; they take turns in each round, and figures are medians over the rounds. Decoding is
timed as the difference between answers of 65 tokens and of one. Before anything is timed, the tokens of each contestant
are scored by transformers in float32.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.engine_models import (
    ADAPTERS,
    SHAPES,
    active_parameters,
    adapter_parameters,
    build_model,
    build_slow_talker,
    write_gguf,
)
from benchmarks.outcome import Measure, publish
from llama_platform.processor import matmul_gflops

CACHE = Path(".cache/bench")
PACKAGES = CACHE / "engine-packages"
VLLM_PYTHON = Path(".cache/vllm/bin/python")
PROMPT, NEW, LONG = 64, 65, 512
MOST_OF_A_LIMIT = 1.02
"""A larger share says that the limit was none."""
PEERS = ("transformers", "transformers_cb", "vllm", "llamacpp")
SCHEMA = json.dumps({"type": "array", "items": {"type": "string"}, "minItems": 100})
"""Held by it, a model of random weights does not end within NEW tokens."""
SCHEMA_VOCABULARY = 3072
Figures = dict[str, dict[str, list[float]]]


def main() -> int:
    """Run the benchmark and print its outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", choices=["decode", "360m", "mixed", "lora", "schema", "own"], help="one part, to look closer"
    )
    arguments = parser.parse_args()
    sys.path.insert(0, str(PACKAGES))
    models = {name: build_model(name, CACHE) for name in SHAPES}
    missing: list[str] = []
    found: Figures = defaultdict(lambda: defaultdict(list))
    measures: dict[str, Measure] = {}
    parts = {
        "decode": lambda: measure_decode("134m", models["134m"], arguments.rounds, found, missing),
        "360m": lambda: measure_decode("360m", models["360m"], max(2, arguments.rounds - 1), found, missing),
        "mixed": lambda: measure_mixed(models["134m"], arguments.rounds, found, missing),
        "lora": lambda: measure_adapters(models["134m"], arguments.rounds, found, missing),
        "schema": lambda: measure_schema(build_slow_talker(CACHE), arguments.rounds, found, missing),
        "own": lambda: measure_own(models, arguments.rounds, measures),
    }
    try:
        for name, part in parts.items():
            if arguments.only in (None, name):
                say(f"-- {name}")
                part()
    finally:
        for contestant in list(Contestant.running):
            contestant.close()
    measures |= outcome(found)
    publish("engine", measures, ["torch", "transformers", "peft", "numba"], sorted(set(missing)))
    return 0


# --- contestants -------------------------------------------------------------------------------------------------


class Contestant:
    """A process that answers commands."""

    running: ClassVar[list["Contestant"]] = []

    def __init__(self, name: str, model: Path, **options: Any) -> None:
        """Start it and wait until it is ready."""
        python = str(VLLM_PYTHON) if name == "vllm" else sys.executable
        environment = {
            **os.environ,
            "PYTHONPATH": f"platform:.:{'' if name == 'vllm' else PACKAGES}",
            "OMP_NUM_THREADS": "2",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "VLLM_CPU_OMP_THREADS_BIND": "0-1",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_NO_USAGE_STATS": "1",
        }
        command = [python, "-m", "benchmarks.engine_contestants", name, str(model), json.dumps(options)]
        self._log = (CACHE / f"contestant-{name}.log").open("w")
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self.running.append(self)
        self._read()

    def ask(self, do: str, **values: Any) -> dict[str, Any]:
        """Send a command and return the answer."""
        assert self._process.stdin is not None
        print(json.dumps({"do": do, **values}), file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()
        self.running.remove(self)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise RuntimeError(f"ended with {self._process.wait()}; see {self._log.name}")


def start(names: list[str], model: Path, missing: list[str], **options: Any) -> dict[str, Contestant]:
    """Start contestants; one that cannot run is reported as missing."""
    running = {}
    for name in names:
        try:
            if name == "llamacpp":
                write_gguf(model)
            running[name] = Contestant(name, model, **options)
        except (RuntimeError, OSError, ImportError) as error:
            say(f"{name} cannot run: {error}")
            missing.append(name)
    return running


# --- measurements ------------------------------------------------------------------------------------------------


class Prompts:
    """Random prompts, never the same twice."""

    def __init__(self, vocabulary: int) -> None:
        self._choose, self._vocabulary = random.Random(7), vocabulary

    def make(self, count: int, length: int) -> list[list[int]]:
        """Return prompts of one length."""
        return [[self._choose.randrange(3, self._vocabulary) for _ in range(length)] for _ in range(count)]


def check(contestants: dict[str, Contestant], judge: Contestant, prompts: Prompts) -> None:
    """Check that each contestant's greedy tokens are, by transformers in float32, as good as the best.

    Raises:
        RuntimeError: a token is further below the best than bfloat16 explains.
    """
    asked = prompts.make(4, 40)
    for name, contestant in contestants.items():
        answers = contestant.ask("generate", prompts=asked, new=12)["tokens"]
        worst = judge.ask("score", prompts=asked, answers=answers)["worst"]
        say(f"{name:16} tokens at most {worst:.3f} standard deviations below the best")
        if worst > 0.25:
            raise RuntimeError(f"{name} answers wrongly: nothing is timed")


def measure_decode(size: str, model: Path, rounds: int, found: Figures, missing: list[str]) -> None:
    """Measure decoding at batch 1, 8 and 16, and prefill, in tokens/s."""
    prompts = Prompts(SHAPES[size]["vocab_size"])
    running = start(["ours", *PEERS], model, missing)
    judge = Contestant("transformers", model, dtype="float32")
    check(running, judge, prompts)
    judge.close()
    for number in range(rounds + 1):  # the first round warms up
        new = NEW if number else 9
        for batch in (1, 8, 16):
            for name, contestant in running.items():
                alone = name == "ours" and batch == 1
                read = contestant.ask("read")["gbytes"] if alone else 0.0
                first = contestant.ask("generate", prompts=prompts.make(batch, PROMPT), new=1)["seconds"]
                whole = contestant.ask("generate", prompts=prompts.make(batch, PROMPT), new=new)["seconds"]
                rate = batch * (new - 1) / (whole - first)
                note(found, number, f"decode_b{batch}_{size}", name, rate)
                if alone:  # the machine is shared: its limit is measured beside what is compared with it
                    note(found, number, f"read_{size}", name, read)
                    used = 2 * active_parameters(size) * rate / 1e9
                    note(found, number, f"bandwidth_share_{size}", name, used / read)
        for name, contestant in running.items():
            if name not in ("transformers_cb", "llamacpp"):
                gemm = matmul_gflops() if name == "ours" else 0.0
                seconds = contestant.ask("generate", prompts=prompts.make(1, LONG), new=1)["seconds"]
                note(found, number, f"prefill_{size}", name, LONG / seconds)
                if name == "ours":
                    note(found, number, f"gemm_{size}", name, gemm)
                    note(found, number, f"gemm_share_{size}", name, prefill_flops(size) / seconds / 1e9 / gemm)
    for contestant in running.values():
        contestant.close()


def measure_mixed(model: Path, rounds: int, found: Figures, missing: list[str]) -> None:
    """Measure 24 requests of mixed lengths that arrive by chance, and the gaps of streams while long prompts arrive."""
    prompts, choose = Prompts(SHAPES["134m"]["vocab_size"]), random.Random(5)
    running = start(["ours", "vllm"], model, missing)
    for number in range(rounds + 1):
        at, load = 0.0, []
        for _ in range(24):
            at += choose.expovariate(1 / 0.05)
            load.append((at, prompts.make(1, choose.randrange(32, 512))[0], choose.randrange(16, 128)))
        streams = [(0.0, prompt, 220) for prompt in prompts.make(8, 32)]
        streams += [(0.5 + 0.5 * place, prompts.make(1, 900)[0], 8) for place in range(4)]
        for name, contestant in running.items():
            served = contestant.ask("serve", requests=load)
            note(found, number, "mixed_load", name, sum(map(len, served["tokens"])) / served["seconds"])
            times = contestant.ask("serve", requests=streams)["times"][:8]
            gaps = sorted(b - a for line in times for a, b in itertools.pairwise(line[5:]))
            ratio = gaps[int(0.99 * len(gaps))] / gaps[len(gaps) // 2]
            note(found, number, "itl", name, ratio)
    for contestant in running.values():
        contestant.close()


def measure_adapters(model: Path, rounds: int, found: Figures, missing: list[str]) -> None:
    """Measure 16 requests over 8 adapters beside the same load on the base alone, in tokens/s with their prompts."""
    prompts = Prompts(SHAPES["134m"]["vocab_size"])
    running = start(["ours", "transformers", "vllm"], model, missing, adapters=ADAPTERS)
    mixed = [place % ADAPTERS for place in range(16)]
    for number in range(rounds + 1):
        for name, contestant in running.items():
            # Both ways round, so that what was asked last before is at nobody's cost.
            order = ("base", "lora", "lora", "base") if name == "ours" else ("lora",)
            for what in order:
                values = {"prompts": prompts.make(16, PROMPT), "new": NEW}
                adapters = mixed if what == "lora" else None
                seconds = contestant.ask("generate", adapters=adapters, **values)["seconds"]
                note(found, number, f"multi_{what}", name, 16 * NEW / seconds)
    for contestant in running.values():
        contestant.close()


def measure_schema(model: Path, rounds: int, found: Figures, missing: list[str]) -> None:
    """Measure decoding that is held to a schema seen before, beside free text, at batch 1, 8 and 16."""
    prompts = Prompts(SCHEMA_VOCABULARY)
    running = start(["ours", "vllm"], model, missing)
    for number in range(rounds + 1):
        for batch in (1, 8, 16):
            for name, contestant in running.items():
                for what, schema in (("free", None), ("held", SCHEMA)):
                    firsts = [
                        contestant.ask("generate", prompts=prompts.make(batch, PROMPT), new=1, schema=schema)["seconds"]
                        for _ in range(9 if batch == 1 else 1)  # of milliseconds, a single one says little
                    ]
                    first = statistics.median(firsts)
                    whole = contestant.ask("generate", prompts=prompts.make(batch, PROMPT), new=NEW, schema=schema)
                    note(found, number, f"{what}_b{batch}", name, batch * (NEW - 1) / (whole["seconds"] - first))
                    note(found, number, f"{what}_first_b{batch}", name, first * 1000)
    for contestant in running.values():
        contestant.close()


def measure_own(models: dict[str, Path], rounds: int, measures: dict[str, Measure]) -> None:
    """Measure what has no peer: the prefix cache, int8 weights, memory."""
    prompts = Prompts(SHAPES["360m"]["vocab_size"])
    ours = Contestant("ours", models["360m"], prefix=True)
    hits, misses = [], []
    for number in range(rounds + 1):
        [prompt] = prompts.make(1, 640)
        first = ours.ask("generate", prompts=[prompt], new=1)["seconds"]
        again = prompt[:576] + prompts.make(1, 64)[0]
        second = ours.ask("generate", prompts=[again], new=1)["seconds"]
        if number:
            misses.append(first)
            hits.append(second)
    hit, miss = statistics.median(hits), statistics.median(misses)
    measures["prefix_hit_ttft_share"] = Measure(hit / miss, 0.2, "lower", "share", hit, {"miss, s": miss})
    int8 = Contestant("ours", models["360m"], weights="int8")
    rates: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        for name, contestant in (("bfloat16", ours), ("int8", int8)):
            first = contestant.ask("generate", prompts=prompts.make(1, PROMPT), new=1)["seconds"]
            whole = contestant.ask("generate", prompts=prompts.make(1, PROMPT), new=NEW)["seconds"]
            if number:
                rates[name].append((NEW - 1) / (whole - first))
    gap = logit_gap(models["360m"], int8, prompts)
    speeds = {name: statistics.median(values) for name, values in rates.items()}
    measures["int8_speedup"] = Measure(
        speeds["int8"] / speeds["bfloat16"], 1.6, "higher", "ratio", speeds["int8"],
        {"bfloat16": speeds["bfloat16"], "logit gap, standard deviations": gap},
    )  # fmt: skip
    ours.close()
    int8.close()
    for size, model in models.items():
        memory = run_memory(model)
        peers = {"weights, MB": memory["weights_mb"], "KV, MB": memory["kv_mb"]}
        name = "rss_overhead_mb" if size == "134m" else f"rss_overhead_{size}_mb"
        measures[name] = Measure(memory["overhead_mb"], 150, "lower", "MB", memory["overhead_mb"], peers)
        allowed = 0.1 * memory["weights_mb"] + 150
        peak = memory["load_peak_mb"] - memory["weights_mb"]
        name = name.replace("overhead", "load_peak_above_weights")
        measures[name] = Measure(peak, allowed, "lower", "MB", peak, peers)


def logit_gap(model: Path, int8: Contestant, prompts: Prompts) -> float:
    """Return the root mean square of the difference that int8 makes to logits, in standard deviations of them."""
    import numpy as np

    exact = Contestant("ours", model, dtype="float32")
    [prompt] = prompts.make(1, 48)
    right, found = (np.array(c.ask("logits", prompt=prompt)["logits"]) for c in (exact, int8))
    exact.close()
    return float(np.sqrt(((right - found) ** 2).mean()) / right.std())


def run_memory(model: Path) -> dict[str, float]:
    """Return the memory of a process that loads the engine and computes 100 steps."""
    command = [sys.executable, "-m", "benchmarks.engine_memory", str(model)]
    environment = {**os.environ, "PYTHONPATH": "platform:.", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def note(found: Figures, number: int, what: str, name: str, value: float) -> None:
    """Keep a figure, unless it is of the round that warms up."""
    if number:
        found[what][name].append(value)
        say(f"round {number}: {what:18} {name:16} {value:10.2f}")


# --- outcome -----------------------------------------------------------------------------------------------------


def outcome(found: Figures) -> dict[str, Measure]:
    """Return the measures from the medians of the rounds."""
    medians = {w: {n: statistics.median(v) for n, v in by_name.items()} for w, by_name in found.items()}
    measures: dict[str, Measure] = {}

    def versus(name: str, what: str, peer: str, aim: float) -> None:
        ours, peers = medians[what].get("ours"), medians[what].get(peer)
        if ours and peers:
            measures[name] = Measure(ours / peers, aim, "higher", "ratio", ours, {peer: peers})

    for size in SHAPES:
        ending = "" if size == "134m" else f"_{size}"
        if f"decode_b1_{size}" not in medians:
            continue
        for batch, aims in {
            1: {"transformers": 2, "transformers_cb": 2, "vllm": 1.3, "llamacpp": 1.05},
            8: {"transformers": 3, "transformers_cb": 6, "vllm": 1.5, "llamacpp": 1.05},
            16: {"transformers": 3, "transformers_cb": 6, "vllm": 1.5, "llamacpp": 1.05},
        }.items():
            for peer, aim in aims.items():
                label = "generate" if peer == "transformers" else peer
                versus(f"decode_b{batch}_vs_{label}{ending}", f"decode_b{batch}_{size}", peer, aim)
        versus(f"prefill_vs_vllm{ending}", f"prefill_{size}", "vllm", 1.1)
        measures |= limits_outcome(size, medians)
    if "mixed_load" in medians:
        versus("mixed_load_vs_vllm", "mixed_load", "vllm", 1.15)
        itl = medians["itl"]
        peers = {name: value for name, value in itl.items() if name != "ours"}
        measures["itl_p99_over_p50"] = Measure(itl["ours"], 2, "lower", "ratio", itl["ours"], peers)
    if "held_b1" in medians:
        measures |= schema_outcome(medians)
        versus("schema_b1_vs_vllm", "held_b1", "vllm", 1)
        versus("schema_b8_vs_vllm", "held_b8", "vllm", 1)
    if "multi_lora" in medians:
        measures["multi_lora_vs_base"] = adapters_outcome(medians)
        versus("multi_lora_vs_peft", "multi_lora", "transformers", 4)
        versus("multi_lora_vs_vllm", "multi_lora", "vllm", 4)
    return measures


def limits_outcome(size: str, medians: Mapping[str, Mapping[str, float]]) -> dict[str, Measure]:
    """Return what our engine makes of the machine's memory and of its matrix products.

    Raises:
        RuntimeError: it makes more of them than the limit that was measured.
    """
    reading, ending = medians[f"bandwidth_share_{size}"]["ours"], "" if size == "360m" else "_134m"
    multiplying = medians[f"gemm_share_{size}"]["ours"]
    for what, share in {"read weights": reading, "multiplied": multiplying}.items():
        if share > MOST_OF_A_LIMIT:
            raise RuntimeError(f"{size}: the engine {what} faster than the limit that was measured: it was none")
    used = 2 * active_parameters(size) * medians[f"decode_b1_{size}"]["ours"] / 1e9
    rate = prefill_flops(size) * medians[f"prefill_{size}"]["ours"] / LONG / 1e9
    limits = {"memory read, GB/s": medians[f"read_{size}"]["ours"]}
    products = {"matrix product, GFLOP/s": medians[f"gemm_{size}"]["ours"]}
    # Much of the smaller model stays in the last-level cache: only the larger one measures memory.
    return {
        f"decode_b1_bandwidth_share{ending}": Measure(reading, 0.80, "higher", "share", used, limits),
        f"prefill_gemm_share{ending}": Measure(multiplying, 0.80, "higher", "share", rate, products),
    }


def adapters_outcome(medians: Mapping[str, Mapping[str, float]]) -> Measure:
    """Return what adapters cost our engine, beside what they cost at least: their bytes."""
    base, lora = medians["multi_base"]["ours"], medians["multi_lora"]["ours"]
    weights, adapters = active_parameters("134m"), ADAPTERS * adapter_parameters("134m")
    bound = weights / (weights + adapters)
    return Measure(lora / base / bound, 0.90, "higher", "ratio", lora, {"base": base, "bound by bytes": bound})


def schema_outcome(medians: Mapping[str, Mapping[str, float]]) -> dict[str, Measure]:
    """Return what a schema costs our engine."""
    measures = {}
    for batch, aim in ((1, 0.95), (16, 0.90)):
        held, free = medians[f"held_b{batch}"]["ours"], medians[f"free_b{batch}"]["ours"]
        measures[f"schema_overhead_b{batch}"] = Measure(held / free, aim, "higher", "ratio", held, {"free": free})
    held, free = medians["held_first_b1"]["ours"], medians["free_first_b1"]["ours"]
    measures["schema_first_token"] = Measure(held / free, 1.05, "lower", "ratio", held, {"free, ms": free})
    return measures


def prefill_flops(size: str) -> float:
    """Return the operations of the matrix products that a prompt of LONG tokens needs, attention's among them."""
    shape = SHAPES[size]
    head = shape["vocab_size"] * shape["hidden_size"]
    linear = 2 * (active_parameters(size) - head) * LONG + 2 * head
    return linear + shape["num_hidden_layers"] * 4 * shape["hidden_size"] * LONG * (LONG + 1) / 2


def say(text: str) -> None:
    """Print for people, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
