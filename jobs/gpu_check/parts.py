"""The training step of the check, in the processes that Ray Train starts."""

import time
from typing import Any

import ray.train
import torch
import torch.distributed as dist

from jobs.gpu_check.machine import Figures, shortest_s
from jobs.gpu_check.shapes import random_chats
from llama_platform.device import CPU
from llama_platform.models.adapter import attach_lora
from llama_platform.models.random_base import random_base
from llama_platform.training.batching.batches import TrainingData
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.step import TrainingStep, prepare_for_training
from llama_platform.training.zero.engine import init_deepspeed, start_engine

STEPS, WARM_UP = 4, 1


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
    seconds = shortest_s(lambda: dist.all_reduce(values), device)
    return round(2 * (world - 1) / world * values.numel() * 4 / seconds / 1e9, 2)


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
