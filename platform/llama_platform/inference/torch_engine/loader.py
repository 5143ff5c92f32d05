"""Loading: the model for this machine, and how many pages of KV cache it has room for."""

import logging
from pathlib import Path

import torch

from llama_platform.errors import InputError
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.torch_engine.architecture import Architecture, read_architecture
from llama_platform.inference.torch_engine.batch import PAGE
from llama_platform.inference.torch_engine.free_memory import check_memory, free_memory
from llama_platform.inference.torch_engine.model import Model
from llama_platform.inference.torch_engine.torch_model import TorchModel
from llama_platform.models.base_model import Precision
from llama_platform.models.weight_files import Weights

_log = logging.getLogger(__name__)


ADAPTERS, ADAPTER_RANK, LEAST_ADAPTER_MIB = 4, 64, 512
"""What memory for adapters has room for where none is configured."""


def adapter_memory(architecture: Architecture, dtype: Precision, config: EngineConfig) -> int:
    """Return the bytes that loaded adapters may take."""
    if config.adapter_memory_mib is not None:
        return config.adapter_memory_mib * 2**20
    values = ADAPTERS * architecture.adapter_values(ADAPTER_RANK)
    return int(max(LEAST_ADAPTER_MIB * 2**20, values * getattr(torch, dtype).itemsize))


def load_model(folder: Path, dtype: Precision, threads: int, config: EngineConfig) -> tuple[Model, int, int]:
    """Return the model, its context length and the pages of its KV cache.

    Args:
        folder: holds config.json and safetensors files.
        dtype: precision of the weights in memory.
        threads: threads of computation.
        config: context length, memory of the KV cache, int8 weights.

    Raises:
        InputError: the folder holds no Llama that can be served, or the configuration does not fit it.
    """
    architecture = read_architecture(folder)
    context = min(config.context_length or architecture.max_positions, architecture.max_positions)
    if dtype == "float16":
        raise InputError("base.dtype float16 needs a GPU; a CPU serves bfloat16 or float32")
    free, size = free_memory(), getattr(torch, dtype).itemsize
    page_bytes = 2 * architecture.layers * architecture.kv_heads * architecture.head_dim * size * PAGE
    pages = _pages(page_bytes, context, config, free)
    adapters, int8 = (config.adapter_memory_mib or 0) * 2**20, config.weights == "int8"
    # What is not configured makes do with what is left: keys and values down to one page, adapters one after another.
    least = pages * page_bytes if config.kv_cache_mib is not None else page_bytes
    check_memory(architecture, size, int8=int8, adapters=adapters, kv_cache=least, free=free)
    weights = Weights(folder)
    if pages * PAGE < context:
        _log.warning(
            "the KV cache holds %d tokens, less than the context of %d: it is shortened", pages * PAGE, context
        )
        context = pages * PAGE
    model = _on_cpu_kernels(architecture, weights, dtype, threads, context, pages, config)
    if model is None:
        model = TorchModel(architecture, weights, getattr(torch, dtype), context, pages)
    return model, context, pages


def _on_cpu_kernels(
    architecture: Architecture,
    weights: Weights,
    dtype: Precision,
    threads: int,
    context: int,
    pages: int,
    config: EngineConfig,
) -> Model | None:
    """Return the model on the CPU kernels, or None where they cannot run, with the reason logged."""
    try:
        from llama_platform.inference.torch_engine.cpu.model import CpuModel
        from llama_platform.inference.torch_engine.cpu.tile import WeightFormat

        kind: WeightFormat = "bf16" if dtype == "bfloat16" else "f32"
        rows, int8 = config.max_step_tokens + config.max_running, config.weights == "int8"
        model = CpuModel(
            architecture, weights, kind, threads, context, pages, rows, config.max_running, int8, config.products
        )
        _log.info("products: %s", model.products.summary())
        return model
    except (ImportError, OSError, InputError) as error:
        if config.weights == "int8":
            raise InputError(f"engine.weights int8 cannot be served here: {error}") from error
        _log.warning("the CPU kernels cannot be used (%s): torch's own operations are slower", error)
        return None


def _pages(page_bytes: int, context: int, config: EngineConfig, free: int) -> int:
    useful = config.max_running * -(-context // PAGE)
    if config.kv_cache_mib is not None:
        return max(1, min(useful, config.kv_cache_mib * 2**20 // page_bytes))
    return max(1, min(useful, free // 4 // page_bytes))
