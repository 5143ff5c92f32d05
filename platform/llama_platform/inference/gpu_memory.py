"""What vLLM needs of a GPU's memory for a base and adapters, and what that leaves for the KV cache: arithmetic alone.

Sizes are those of vLLM 0.30: weights as they are stored, buffers for `max_loras` adapters of the largest rank on every
projection, two vectors for each token and layer in the KV cache.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llama_platform.errors import InputError

GIB = 2**30
GPUS: Mapping[str, float] = {"A10G": 22.5, "L4": 22.5, "A100-40": 39.5, "A100-80": 79.3, "H100": 79.6, "H200": 140.4}
"""GiB that a driver reports of usual GPUs."""
BASES: Mapping[str, Mapping[str, int]] = {
    "7b": {"hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "13b": {"hidden_size": 5120, "intermediate_size": 13_824, "num_hidden_layers": 40, "num_attention_heads": 40},
    "70b": {
        "hidden_size": 8192, "intermediate_size": 28_672, "num_hidden_layers": 80, "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
}  # fmt: skip
"""Shapes of Llama-2, as its `config.json` has them."""
Quantization = Literal["none", "int8", "fp8", "int4"]
_BITS: Mapping[Quantization, float] = {"none": 16, "int8": 8, "fp8": 8, "int4": 4.5}
"""Bits of a weight of a projection; with 4 bits, scales and zeros of groups of 128 take half a bit."""
UTILIZATION = 0.9
"""Share of a GPU that vLLM takes by default."""
USUAL_CONTEXT = 4096
"""Tokens that Llama-2 reads at most."""
OVERHEAD_GIB = 1.5
"""Taken by CUDA, captured graphs and activations, on each GPU: a round figure, not measured here."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes on each GPU, and what they are enough for."""

    weights: int
    adapters: int
    overhead: int
    kv_cache: int
    """What is left; negative where the rest does not fit."""
    kv_per_token: int

    @property
    def fits(self) -> bool:
        """Whether there is room for one request of the usual length."""
        return self.requests_of(USUAL_CONTEXT) >= 1

    def requests_of(self, tokens: int) -> int:
        """Return how many requests of this length fit at the same time."""
        return max(0, self.kv_cache) // (self.kv_per_token * tokens)


def plan_memory(
    config: Mapping[str, int],
    gpu_gib: float,
    gpus: int = 1,
    adapters: int = 8,
    rank: int = 64,
    quantization: Quantization = "none",
    kv_bytes: int = 2,
    utilization: float = UTILIZATION,
) -> MemoryPlan:
    """Return what a replica needs on each of its GPUs.

    Args:
        config: the base's `config.json`.
        gpu_gib: memory of one GPU, GiB.
        gpus: how many the base is spread over (tensor parallel).
        adapters: how many can be in use at the same time, 0 for none.
        rank: the largest rank of them.
        quantization: how weights of projections are stored.
        kv_bytes: bytes of a number in the KV cache.
        utilization: share of a GPU that vLLM takes.
    """
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    keys = config.get("num_key_value_heads", heads) * (hidden // heads)
    split_by_outputs = ((hidden, hidden), (keys, hidden), (keys, hidden), (inner, hidden), (inner, hidden))
    split_by_inputs = ((hidden, hidden), (hidden, inner))
    values = layers * sum(outputs * inputs for outputs, inputs in (*split_by_outputs, *split_by_inputs))
    tables = 2 * config.get("vocab_size", 32_000) * hidden
    weights = (values * _BITS[quantization] / 8 + tables * 2) / gpus
    # vLLM spreads one of an adapter's two matrices over the GPUs, the one whose side is spread in the base.
    sides = sum(outputs / gpus + inputs for outputs, inputs in split_by_outputs)
    sides += sum(outputs + inputs / gpus for outputs, inputs in split_by_inputs)
    buffers = adapters * rank * layers * sides * 2
    overhead = OVERHEAD_GIB * GIB
    left = gpu_gib * GIB * utilization - weights - buffers - overhead
    return MemoryPlan(int(weights), int(buffers), int(overhead), int(left), 2 * layers * keys * kv_bytes // gpus)


def check_fits(
    config: Mapping[str, int],
    gpu_gib: float,
    gpus: int,
    adapters: int,
    rank: int,
    quantization: Quantization = "none",
    kv_bytes: int = 2,
    utilization: float = UTILIZATION,
    tokens: int = USUAL_CONTEXT,
) -> None:
    """Check that a replica has room for at least one request, before vLLM is started for minutes to find out.

    Args:
        config: the base's `config.json`.
        gpu_gib: memory of one GPU, GiB.
        gpus: how many the base is spread over.
        adapters: how many can be in use at the same time.
        rank: the largest rank of them.
        quantization: how weights of projections are stored.
        kv_bytes: bytes of a number in the KV cache.
        utilization: share of a GPU that vLLM takes.
        tokens: prompt and answer of the longest request, for which vLLM must have room.

    Raises:
        InputError: it has not, with what takes the memory.
    """
    plan = plan_memory(config, gpu_gib, gpus, adapters, rank, quantization, kv_bytes, utilization)
    if not plan.requests_of(tokens):
        raise InputError(
            f"{gpu_gib:.1f} GiB of GPU memory, of which vLLM takes {utilization:.0%}, are too little: "
            f"{plan.weights / GIB:.1f} GiB weights, {plan.adapters / GIB:.1f} GiB for {adapters} adapters of rank "
            f"{rank} (engine.max_adapter_rank), {plan.overhead / GIB:.1f} GiB CUDA and activations; a request of "
            f"{tokens:,} tokens (engine.context_length) needs {plan.kv_per_token * tokens / GIB:.1f} GiB more. "
            "See llama-platform fit"
        )


def read_shape(base: str) -> Mapping[str, int]:
    """Return the shape of a base: `7b`, `13b`, `70b`, or that of a folder's `config.json`.

    Raises:
        InputError: it is none of these.
    """
    if base in BASES:
        return BASES[base]
    try:
        found: dict[str, int] = json.loads((Path(base) / "config.json").read_text(encoding="utf-8"))
        missing = BASES["7b"].keys() - found.keys()
    except (OSError, ValueError) as error:
        raise InputError(f"base {base!r}: give {', '.join(BASES)} or a folder with a config.json ({error})") from error
    if missing:
        raise InputError(f"{base}/config.json: has no {', '.join(sorted(missing))}")
    return found


def gpu_gib(gpu: str) -> float:
    """Return the memory of a GPU of GPUS, or a number of GiB that is written out.

    Raises:
        InputError: it is neither.
    """
    if gpu in GPUS:
        return GPUS[gpu]
    try:
        found = float(gpu)
    except ValueError:
        found = 0.0
    if not 0 < found < 10_000:
        raise InputError(f"GPU {gpu!r} is not known: give {', '.join(GPUS)}, or its memory in GiB")
    return found


def parse_quantization(text: str) -> Quantization:
    """Return a kind of quantization by its name.

    Raises:
        InputError: there is none of this name.
    """
    for known in _BITS:
        if known == text:
            return known
    raise InputError(f"quantization {text!r} is not known: give {', '.join(_BITS)}")
