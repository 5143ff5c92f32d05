"""How fast the CPU engine is on this machine: answers, prompts and adapters, beside what the machine allows."""

import asyncio
import json
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file

from llama_platform.inference.protocol import FinishEvent, GenerationRequest, SamplingParams
from llama_platform.inference.torch_engine.architecture import Architecture
from llama_platform.inference.torch_engine.engine import TorchEngine
from llama_platform.models.adapter_folder import CONFIG_FILE, WEIGHTS_FILE
from llama_platform.processor import matmul_gflops

PROMPT, LONG_PROMPT, ANSWER = 64, 512, 33
"""Tokens; an answer's first token is timed with its prompt, the others are its decoding."""
BATCHES = (1, 8, 16)
ADAPTERS, RANK = 4, 64
MOST_OF_A_LIMIT = 1.02
"""A larger share says that the limit was none."""

Bound = Literal["memory", "multiplication", ""]


@dataclass(frozen=True, slots=True)
class Speed:
    """One figure."""

    name: str
    value: float
    unit: Literal["tokens/s", "ms"]
    limit: float | None = None
    """The best that the machine allows, in the same unit; None where that is unknown."""
    bound_by: Bound = ""

    @property
    def share(self) -> float | None:
        """Return how much of the limit was reached."""
        return None if self.limit is None else self.value / self.limit


@dataclass(frozen=True, slots=True)
class SpeedReport:
    """What was measured."""

    speeds: list[Speed]
    read_gbytes_per_s: float | None
    """Best rate at which the weights are read; None where that is not measured."""
    matmul_gflops: float
    """Best rate of a matrix product."""
    weight_bytes: int
    """What each token of an answer reads."""
    products: dict[str, str]
    """What computes each kind of matrix product, in words."""
    rounds: int


def measure_speed(engine: TorchEngine, seconds: float, said: Callable[[str], None] = lambda _: None) -> SpeedReport:
    """Measure an engine that does nothing else; figures are medians over rounds, of which the first warms up.

    Args:
        engine: with the base loaded.
        seconds: after which no round begins; there are two at least.
        said: is told what is measured.
    """
    found: dict[str, list[float]] = defaultdict(list)
    said("limits of this machine")
    reading, gflops = engine.reading(), matmul_gflops()
    begun, rounds = time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        adapter = write_random_adapter(engine.architecture, Path(folder))
        while rounds < 2 or time.perf_counter() - begun < seconds:
            said(f"round {rounds}" if rounds else "warming up")
            figures = asyncio.run(_round(engine, adapter, rounds))
            for name, value in figures.items() if rounds else ():
                found[name].append(value)
            rounds += 1
    medians = {name: statistics.median(values) for name, values in found.items()}
    rate = None if reading is None else reading.gbytes_per_s
    size_bytes = engine.stats().memory["weight_bytes"] if reading is None else reading.size_bytes
    tokens_read_per_s = None if rate is None else rate * 1e9 / size_bytes
    speeds = _speeds(engine.architecture, medians, gflops, tokens_read_per_s)
    return SpeedReport(speeds, rate, gflops, size_bytes, dict(engine.stats().products), rounds - 1)


def write_random_adapter(shape: Architecture, folder: Path) -> Path:
    """Write an adapter of rank RANK on q_proj and v_proj with small random values, and return its folder."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for layer in range(shape.layers):
        for name in ("q_proj", "v_proj"):
            outputs, inputs = shape.projections[name]
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}.lora"
            tensors[f"{prefix}_A.weight"] = torch.randn(RANK, inputs, generator=generator).mul_(0.01)
            tensors[f"{prefix}_B.weight"] = torch.randn(outputs, RANK, generator=generator).mul_(0.001)
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, folder / WEIGHTS_FILE)
    settings = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": 16,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
    }
    (folder / CONFIG_FILE).write_text(json.dumps(settings), encoding="utf-8")
    return folder


async def _round(engine: TorchEngine, adapter: Path, number: int) -> dict[str, float]:
    """Return each figure once: tokens per second, or ms."""
    figures: dict[str, float] = {}
    client = _Client(engine, random.Random(number))
    for batch in BATCHES:
        figures[f"decode {batch}"] = await client.decode([None] * batch)
    long = min(LONG_PROMPT, engine.context_length - 2)
    figures["prompt"] = long / await _timed(client.answers([None], long, 1))
    names = [f"bench-{number}-{place}" for place in range(ADAPTERS)]
    taken = [await _timed(engine.load_adapter(name, adapter)) for name in names]
    figures["adapter"] = 1000 * statistics.median(taken)
    figures["adapters"] = await client.decode([*names] * (BATCHES[-1] // ADAPTERS))
    for name in names:
        await engine.unload_adapter(name)
    return figures


class _Client:
    """Asks an engine for answers to prompts of random tokens, which no cache can know."""

    def __init__(self, engine: TorchEngine, chance: random.Random) -> None:
        self._engine, self._chance, self._count = engine, chance, 0

    async def decode(self, adapters: list[str | None]) -> float:
        """Return tokens per second after the first ones, of an answer with each of these adapters at once."""
        prompt = min(PROMPT, self._engine.context_length - ANSWER - 1)
        first = await _timed(self.answers(adapters, prompt, 1))
        whole = await _timed(self.answers(adapters, prompt, ANSWER))
        return len(adapters) * (ANSWER - 1) / max(whole - first, 1e-9)

    async def answers(self, adapters: list[str | None], prompt: int, new: int) -> None:
        """Let the engine answer with each adapter at once."""
        await asyncio.gather(*(self._answer(adapter, prompt, new) for adapter in adapters))

    async def _answer(self, adapter: str | None, prompt: int, new: int) -> None:
        self._count += 1
        tokens = tuple(self._chance.choices(range(3, self._engine.architecture.vocab_size), k=prompt))
        request = GenerationRequest(
            request_id=f"bench-{self._count}",
            prompt_ids=tokens,
            sampling=SamplingParams(temperature=0, max_new_tokens=new, ignore_eos=True),
            adapter_digest=adapter,
        )
        async for event in self._engine.generate(request):
            if isinstance(event, FinishEvent) and event.reason != "length":
                raise RuntimeError(f"an answer ended by '{event.reason}': {event.error}")


async def _timed(work: Coroutine[object, object, None]) -> float:
    begun = time.perf_counter()
    await work
    return time.perf_counter() - begun


def _speeds(
    shape: Architecture, medians: dict[str, float], gflops: float, tokens_read_per_s: float | None
) -> list[Speed]:
    multiplied = gflops * 1e9 / (2 * _weights(shape))
    speeds = []
    for batch in BATCHES:
        # Each step reads the weights once for all requests, and multiplies them for each.
        read = multiplied if tokens_read_per_s is None else batch * tokens_read_per_s
        bound: Bound = "memory" if read < multiplied else "multiplication"
        speeds.append(_limited(f"answers, {batch} at once", medians[f"decode {batch}"], min(read, multiplied), bound))
    speeds.append(_limited(f"a prompt of {LONG_PROMPT} tokens", medians["prompt"], multiplied, "multiplication"))
    speeds.append(Speed(f"answers, {BATCHES[-1]} at once with {ADAPTERS} adapters", medians["adapters"], "tokens/s"))
    speeds.append(Speed(f"loading an adapter of rank {RANK}", medians["adapter"], "ms"))
    return speeds


def _limited(name: str, value: float, limit: float, bound: Bound) -> Speed:
    """Return a figure with its limit, unless more was reached: then it was none."""
    if value > MOST_OF_A_LIMIT * limit:
        return Speed(name, value, "tokens/s")
    return Speed(name, value, "tokens/s", limit, bound)


def _weights(shape: Architecture) -> int:
    """Return the weights that a token is multiplied with, those of the output head among them."""
    of_layer = sum(outputs * inputs for outputs, inputs in shape.projections.values())
    return shape.layers * of_layer + shape.vocab_size * shape.hidden
