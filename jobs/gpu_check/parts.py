"""The parts of the check, each in a process of its own that Ray gives a GPU where there is one."""

import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import psutil
import ray.train
import torch
import torch.distributed as dist

from jobs.gpu_check.shapes import random_chats
from llama_platform.device import CPU, assigned_device
from llama_platform.models.adapter import attach_lora
from llama_platform.models.random_base import random_base
from llama_platform.training.batching.batches import TrainingData
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.step import TrainingStep, prepare_for_training
from llama_platform.training.zero.engine import init_deepspeed, start_engine

Figures = dict[str, Any]
STEPS, WARM_UP = 4, 1


def describe_machine() -> Figures:
    """Return the GPUs with their memory and drivers, and the rest of the machine."""
    gpus: list[str] = []
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=60)  # noqa: S603  # nothing of a user's
        gpus = done.stdout.strip().splitlines()
    return {
        "gpus": gpus,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "nccl": torch.cuda.nccl.version() if gpus else None,  # type: ignore[no-untyped-call]
        "python": platform.python_version(),
        "cores": psutil.cpu_count(logical=False),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def measure_rates(size: int) -> Figures:
    """Return the rate of a bfloat16 matrix product of size³ and of copying within the device's memory."""
    device = assigned_device()
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    flat = torch.empty(size * size * 8, dtype=torch.int32, device=device)
    other = torch.empty_like(flat)
    product, copy = _seconds(lambda: a @ b, device), _seconds(lambda: other.copy_(flat), device)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "tflops": round(2 * size**3 / product / 1e12, 3),
        "copy_gbytes_per_s": round(2 * flat.numel() * 4 / copy / 1e9, 1),
    }


def train_ours(given: dict[str, Any]) -> Figures:
    """Run optimizer steps of this platform; what every Ray Train worker calls.

    Args:
        given: `config`, a FinetuneConfig, and `shape`, of the base.
    """
    config: FinetuneConfig = given["config"]
    training = config.training
    device = ray.train.torch.get_device() if training.use_gpu else CPU
    init_deepspeed(training.cpus_per_worker, device)
    figures: Figures = {}
    if (world := dist.get_world_size()) > 1:
        figures["all_reduce_gbytes_per_s"] = _all_reduce_rate(device)
    dtype = getattr(torch, training.precision)
    model = attach_lora(random_base(given["shape"], dtype, device), config.lora, training.seed)
    module = prepare_for_training(
        model, gradient_checkpointing=training.gradient_checkpointing, packed=True, device=device
    )
    step = TrainingStep(start_engine(module, training, training.accumulation_steps), device, training.seed)
    size = training.micro_batch_size * training.accumulation_steps * world
    rows = random_chats(size * (STEPS + WARM_UP), config.data.max_tokens, given["shape"]["vocab_size"])
    data, losses, seconds = TrainingData(rows, 0, training.micro_batch_size, "packed", training.seed), [], []
    reset_peak(device)
    for number in range(STEPS + WARM_UP):
        part = data.step(number, size, dist.get_rank(), world)
        start = time.perf_counter()
        total = step.run(number, part.batches, part.count, part.trained_tokens, training.learning_rate)
        dist.all_reduce(total)
        losses.append(total.item() / part.trained_tokens)
        seconds.append((part.tokens, time.perf_counter() - start))
    return figures | speed(seconds) | {"losses": [round(loss, 4) for loss in losses], **peak(device)}


def _all_reduce_rate(device: torch.device) -> float:
    """Return the GB/s that each worker sends while all reduce 256 MB (NCCL's «bus bandwidth»)."""
    values, world = torch.ones(2**26, device=device), dist.get_world_size()
    seconds = _seconds(lambda: dist.all_reduce(values), device)
    return round(2 * (world - 1) / world * values.numel() * 4 / seconds / 1e9, 2)


def _seconds(work: Callable[[], object], device: torch.device, times: int = 10) -> float:
    """Return the shortest time of some work."""
    found = []
    for _ in range(times + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - start)
    return min(found[1:])


def speed(steps: list[tuple[int, float]]) -> Figures:
    """Return the rate of the steps after the first, each given as its tokens and seconds."""
    measured = steps[WARM_UP:]
    tokens, seconds = (sum(values) for values in zip(*measured, strict=True))
    return {"tokens_per_s": round(tokens / seconds, 1), "seconds_per_step": round(seconds / len(measured), 3)}


def reset_peak(device: torch.device) -> None:
    """Forget the most memory that a GPU has held so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> Figures:
    """Return the most memory that a GPU has held since then; nothing of a CPU."""
    if device.type != "cuda":
        return {}
    return {"peak_gib": round(torch.cuda.max_memory_allocated(device) / 2**30, 2)}
