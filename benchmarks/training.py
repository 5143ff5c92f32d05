"""Useful tokens/s of LoRA fine-tuning beside transformers' Trainer, TRL's SFTTrainer and bare torchrun.

    make bench-training

134 M parameters with random weights, bfloat16, r 64 on q_proj and v_proj, batch 4, SDPA, two threads in all; chats with
log-normal lengths (median 150, σ 0.9, cap 512), the second half of each in the loss. Contestants take turns; each
figure is the median over the rounds. Every contestant has the process layout that suits it: transformers' Trainer is
run with one process of two threads and with two of one, and the faster one counts.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.outcome import Measure, publish

CACHE = Path(".cache/bench")
CHATS, MEDIAN, SIGMA, LONGEST, SHORTEST = 600, 150, 0.9, 512, 24
PARAMETERS = 134_105_856
OURS = "ours"
# name: processes
ONCE = ("hf_grouped", "hf_512")
"""Reported beside the others; one round is enough."""
CONTESTANTS = {"torchrun": 2, "hf": 1, "hf two processes": 2, "hf_grouped": 1, "hf_512": 1, "trl": 1}


def main() -> int:
    """Run the benchmark and print its outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--micro-batches", type=int, default=12, help="measured in each run")
    parser.add_argument("--only", choices=["answers", "preferences"], help="one part, to look closer")
    arguments = parser.parse_args()
    model, store, rows = build_inputs()
    found: dict[str, Measure] = {}
    missing: list[str] = []
    if arguments.only != "preferences":
        found |= measure_answers(model, store, rows, arguments, missing)
    if arguments.only != "answers":
        found |= measure_preferences(model, rows, arguments, missing)
    publish("training", found, ["torch", "transformers", "peft", "deepspeed", "ray", "accelerate"], missing)
    return 0 if found else 1


def measure_answers(
    model: str, store: Path, rows: Path, arguments: argparse.Namespace, missing: list[str]
) -> dict[str, Measure]:
    """Measure training on answers; nothing where losses differ."""
    check = contestant("check", 1, model, rows, 0)
    say(f"loss of six chats: ours {check['ours']:.4f}, transformers {check['transformers']:.4f}")
    if not math.isclose(check["ours"], check["transformers"], rel_tol=5e-3):
        say("the losses differ: nothing is timed")
        return {}
    runs: dict[str, list[dict[str, float]]] = defaultdict(list)
    for number in range(arguments.rounds):
        runs["gemm"].append(contestant("gemm", 1, model, rows, 0))
        runs[OURS].append(run_job(model, store, arguments.micro_batches))
        say(f"round {number + 1}: {OURS:18} {speed(runs[OURS][-1]):7.1f} useful tokens/s")
        for name, processes in CONTESTANTS.items():
            if name in missing or (number and name in ONCE):
                continue
            try:
                count = arguments.micro_batches // (4 if name in (*ONCE, "trl") else 1)
                run = contestant(name.split()[0], processes, model, rows, count)
            except subprocess.CalledProcessError as error:
                say(f"{name} cannot run: {(error.stderr or '').strip().splitlines()[-1:]}")
                missing.append(name)
                continue
            runs[name].append(run)
            say(f"round {number + 1}: {name:18} {speed(run):7.1f} useful tokens/s")
    return measures(runs)


def measure_preferences(
    model: str, rows: Path, arguments: argparse.Namespace, missing: list[str]
) -> dict[str, Measure]:
    """Measure direct preference optimization beside TRL's trainer, one process of two threads each."""
    pairs = build_pairs(rows)
    check = contestant("dpo_check", 1, model, pairs, 0)
    say(", ".join(f"{name} {value:.4f}" for name, value in check.items()))
    for name in ("", " gradient"):
        if not math.isclose(check[f"ours{name}"], check[f"trl{name}"], rel_tol=2e-2):
            raise RuntimeError("loss or gradient differ: nothing is timed")
    runs: dict[str, list[dict[str, float]]] = defaultdict(list)
    for number in range(arguments.rounds):
        for name, processes in (("dpo", 1), ("dpo_trl", 1)):
            runs[name].append(contestant(name, processes, model, pairs, arguments.micro_batches))
            say(f"round {number + 1}: {name:18} {speed(runs[name][-1]):7.1f} useful tokens/s")
    ours, theirs = (statistics.median(map(speed, runs[name])) for name in ("dpo", "dpo_trl"))
    memory = {name: statistics.median(run["memory_mib"] for run in found) for name, found in runs.items()}
    return {
        "dpo_vs_trl": Measure(ours / theirs, 1.3, "higher", "ratio", ours, {"trl": theirs}),
        "dpo_memory_vs_trl": Measure(
            memory["dpo"] / memory["dpo_trl"], 1, "lower", "ratio", memory["dpo"], {"trl, MiB": memory["dpo_trl"]}
        ),
    }


def build_pairs(rows: Path) -> Path:
    """Write the chats once more with a second answer each, the words of the first in another order; return the file."""
    import datasets

    path, generator = CACHE / "training-pairs.parquet", np.random.default_rng(1)

    def paired(row: dict[str, Any]) -> dict[str, Any]:
        ids, start = row["input_ids"], row["trained"].index(True)
        other = [*generator.permutation(ids[start:-1]).tolist(), ids[-1]]
        return {
            "input_ids": ids, "trained": row["trained"],
            "rejected_input_ids": ids[:start] + other, "rejected_trained": row["trained"],
            "length": 2 * len(ids), "num_trained": 1,
            "prompt_ids": ids[:start], "chosen_ids": ids[start:], "rejected_ids": other,
        }  # fmt: skip

    if not path.exists():
        datasets.Dataset.from_parquet(str(rows)).map(paired).to_parquet(str(path))
    return path


def measures(runs: dict[str, list[dict[str, float]]]) -> dict[str, Measure]:
    """Return the measures from the medians of the rounds."""
    speeds = {name: statistics.median(map(speed, found)) for name, found in runs.items() if name != "gemm"}
    ours, peak = speeds[OURS], statistics.median(run["gflops"] for run in runs["gemm"])
    faster = max(("hf", "hf two processes"), key=lambda name: speeds.get(name, 0))
    padding = statistics.median(run["padded"] / run["tokens"] for run in runs[faster])
    memory = {name: statistics.median(r["memory_mib"] for r in runs[name]) for name in ("torchrun", "hf two processes")}
    hf = {name: value for name, value in speeds.items() if name.startswith("hf")}
    share = 4 * PARAMETERS * ours / (peak * 1e9)
    found = {
        "vs_hf_padding_bound": Measure(
            ours / (speeds[faster] * padding), 1.15, "higher", "ratio", ours, {**hf, "padded ÷ useful tokens": padding}
        ),
        "vs_torchrun": Measure(
            ours / speeds["torchrun"], 0.97, "higher", "ratio", ours, {"torchrun": speeds["torchrun"]}
        ),
        "gemm_share": Measure(share, 0.70, "higher", "share", share * peak, {"matrix product, GFLOP/s": peak}),
        "memory_vs_hf": Measure(
            memory["torchrun"] / memory["hf two processes"],
            0.5,
            "lower",
            "ratio",
            memory["torchrun"],
            {"hf two processes, MiB each": memory["hf two processes"]},
        ),
    }
    if "trl" in speeds:
        found["vs_trl_packing"] = Measure(ours / speeds["trl"], 1.1, "higher", "ratio", ours, {"trl": speeds["trl"]})
    return found


def speed(run: dict[str, float]) -> float:
    """Return useful tokens per second."""
    return run["tokens"] / run["seconds"]


def build_inputs() -> tuple[str, Path, Path]:
    """Build the model and the dataset once; return the model's folder, the store and the tokenized chats."""
    from llama_platform.artifacts.location import StoreConfig, repository_from
    from llama_platform.data.checks.policies import Policies
    from llama_platform.data.config import DataConfig
    from llama_platform.data.publish import publish_dataset
    from llama_platform.data.reading.sources import open_sources
    from llama_platform.data.tokenize import load_tokenized
    from llama_platform.models.base_model import load_template

    base = base_config(str(CACHE / "llama-134m"))
    model, store, rows = Path(base.model), CACHE / "training-store", CACHE / "training-rows.parquet"
    if not (model / "config.json").exists():
        build_model(model)
    if not rows.exists():
        template = load_template(base)
        chats = CACHE / "training-chats.jsonl"
        chats.write_text("\n".join(map(json.dumps, compose_chats(template))))
        warn = Policies(near_duplicate="warn", leakage="warn")
        data = DataConfig(
            name="bench", sources=(str(chats),), policies=warn, report_folder=CACHE / "report", eval_fraction=0.02
        )
        config = StoreConfig(uri=store.absolute().as_uri(), cache=CACHE / "artifacts")
        repository = repository_from(config, {})
        with open_sources(data.sources) as files:
            version, _ = publish_dataset(repository, data, base, files)
        with repository.fetched(version) as folder:
            load_tokenized(folder / "train.parquet", template, CACHE / "tokenized").to_parquet(str(rows))
    return str(model), store, rows


def base_config(model: str) -> Any:
    """Return the configuration of the benchmark's base."""
    from llama_platform.models.base_model import BaseConfig

    return BaseConfig(model=model, prompt_style="plain", dtype="bfloat16")


def build_model(folder: Path) -> None:
    """Write a Llama of 134 M parameters with random weights, and the tiny base's tokenizer, whose ids it covers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from llama_platform.models.base_model import BaseConfig, load_template

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=12,
        vocab_size=32_000,
        max_position_embeddings=1024,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS
    model.save_pretrained(folder)
    load_template(BaseConfig(model="tiny")).tokenizer.save_pretrained(folder)


def compose_chats(template: Any) -> list[dict[str, str]]:
    """Return chats of log-normal lengths in tokens; the answer is about half of each."""
    generator = np.random.default_rng(0)
    tokenizer = template.tokenizer
    words = [w for t in range(300, len(tokenizer)) if (w := tokenizer.decode([t])).strip().isalpha() and w[0] == " "]
    lengths = np.clip(generator.lognormal(math.log(MEDIAN), SIGMA, CHATS), SHORTEST, LONGEST).astype(int)
    chats = []
    for length in lengths:
        chosen = generator.choice(words, int(length) - 16)
        half = len(chosen) // 2
        chats.append({"input": "".join(chosen[:half]).strip(), "output": "".join(chosen[half:]).strip()})
    return chats


def contestant(name: str, processes: int, model: str, rows: Path, count: int) -> dict[str, float]:
    """Run a contestant and return what it prints."""
    launcher = [sys.executable, "-m"]
    if processes > 1 or name in ("torchrun", "dpo"):
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command = [*launcher, "benchmarks.training_contestants", name, model, str(rows), str(count)]
    environment = quiet_environment() | {"OMP_NUM_THREADS": str(2 // processes)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=900)
    return dict(json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{"))))


def run_job(model: str, store: Path, count: int) -> dict[str, float]:
    """Run `jobs.finetune` with two workers of one thread, and return what its metrics say of the steps."""
    from llama_platform.storage.open_store import open_store
    from llama_platform.training.run.log import read_metrics

    warm_up, per_step = 1, 8
    with tempfile.TemporaryDirectory() as scratch:
        uri = Path(scratch, "store").as_uri()
        # A store of its own for the run's files, beside the same datasets.
        Path(scratch, "store").mkdir()
        Path(scratch, "store/datasets").symlink_to((store / "datasets").absolute())
        settings = {
            "store.uri": uri,
            "store.cache": str((CACHE / "artifacts").absolute()),
            "base.model": str(Path(model).absolute()),
            "base.prompt_style": "plain",
            "data.name": "bench",
            "training.run_id": "bench",
            "training.workers": 2,
            "training.use_gpu": "false",
            "training.zero_stage": 2,
            "training.micro_batch_size": 4,
            "training.accumulation_steps": 4,
            "training.precision": "bfloat16",
            "training.max_steps": warm_up + max(2, count // per_step),
            "training.checkpoint_every": 10_000,
            "evaluation.max_chats": 2,
        }
        overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        subprocess.run(
            [sys.executable, "-m", "jobs.finetune", *overrides],
            env=quiet_environment(), capture_output=True, text=True, check=True, timeout=900,
        )  # fmt: skip
        records = read_metrics(open_store(uri), "bench")[warm_up:]
    return {"tokens": sum(r.tokens for r in records), "seconds": sum(r.step_s for r in records)}


def quiet_environment() -> dict[str, str]:
    """Return the environment of the contestants."""
    path = f"platform:.:{CACHE / 'packages'}"
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def say(text: str) -> None:
    """Print for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
