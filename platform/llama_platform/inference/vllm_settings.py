"""Settings of vLLM: what of an engine's configuration it is told, as values, without vLLM itself."""

from pathlib import Path
from typing import Any

from llama_platform.errors import InputError
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.gpu_memory import USUAL_CONTEXT, Quantization, check_fits, read_shape
from llama_platform.models.base_model import BaseConfig

ADAPTER_RANK = 64
"""The largest rank of adapters where none is configured: vLLM reserves memory for it."""
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Bounds on the rank that vLLM can be set up for."""


def vllm_arguments(folder: Path, base: BaseConfig, config: EngineConfig, gpus: int = 1) -> dict[str, Any]:
    """Return the arguments of vLLM's AsyncEngineArgs.

    Args:
        folder: the base.
        base: says in which precision it is loaded.
        config: the engine's.
        gpus: how many GPUs of one machine the base is spread over.

    Raises:
        InputError: a setting is for our own engine, or the base cannot be spread over so many GPUs.
    """
    _check_settings(config)
    heads = read_shape(str(folder))["num_attention_heads"]
    if heads % gpus:
        raise InputError(f"llama.num_gpus: the base has {heads} attention heads, which {gpus} GPUs cannot share evenly")
    kv_bytes = None if config.kv_cache_mib is None else config.kv_cache_mib * 2**20
    own = config.vllm
    return {
        "model": str(folder),
        "dtype": base.dtype,
        "quantization": own.quantization,
        "tensor_parallel_size": gpus,
        # Ray has given all GPUs to this process: vLLM starts its workers as children of it.
        "distributed_executor_backend": "mp" if gpus > 1 else None,
        "max_model_len": config.context_length,
        "max_num_seqs": config.max_running,
        "max_num_batched_tokens": max(config.max_step_tokens, config.max_running),
        "gpu_memory_utilization": own.gpu_memory_utilization,
        "kv_cache_memory_bytes": kv_bytes,
        "kv_cache_dtype": own.kv_cache_dtype,
        "enable_prefix_caching": config.prefix_cache,
        "speculative_config": own.speculative,
        "enable_lora": True,
        "max_loras": adapter_places(config),
        "max_lora_rank": adapter_rank(config),
        "scheduling_policy": "priority",
        # The grammars of our own engine, and JSON as compact as its.
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
        "trust_remote_code": False,
        "disable_log_stats": True,
    }


def adapter_places(config: EngineConfig) -> int:
    """Return how many different adapters a step can use."""
    return min(config.vllm.max_loras, config.max_running)


def adapter_rank(config: EngineConfig) -> int:
    """Return the largest rank that memory is reserved for; higher ones are refused."""
    wanted = ADAPTER_RANK if config.max_adapter_rank is None else config.max_adapter_rank
    return next((rank for rank in _RANKS if rank >= wanted), _RANKS[-1])


def check_memory(folder: Path, gpu_gib: float, gpus: int, config: EngineConfig) -> None:
    """Check that a base, adapters and one request fit the memory of GPUs, before vLLM is started.

    Args:
        folder: the base.
        gpu_gib: memory of one GPU, GiB.
        gpus: how many the base is spread over.
        config: the engine's.

    Raises:
        InputError: they do not, with what takes the memory.
    """
    shape = read_shape(str(folder))
    quantization = _quantization(shape, config)
    if quantization is None:  # of a kind whose size nothing here knows: vLLM will tell
        return
    longest = shape.get("max_position_embeddings", USUAL_CONTEXT)
    check_fits(
        shape,
        gpu_gib,
        gpus,
        adapter_places(config),
        adapter_rank(config),
        quantization=quantization,
        kv_bytes=1 if config.vllm.kv_cache_dtype == "fp8" else 2,
        utilization=config.vllm.gpu_memory_utilization,
        tokens=min(longest, config.context_length or longest),
    )


def _check_settings(config: EngineConfig) -> None:
    ignored = {
        "weights": config.weights != "base" and "use engine.vllm.quantization",
        "products": config.products != "auto" and "it chooses by itself",
        "adapter_memory_mib": config.adapter_memory_mib is not None and "use engine.vllm.max_loras",
    }
    for name, instead in ignored.items():
        if instead:
            raise InputError(f"engine.{name}: is for our own engine, and this replica's is vLLM; {instead}")


def _quantization(shape: Any, config: EngineConfig) -> Quantization | None:
    """Return how the weights are held; None where that is not known."""
    if config.vllm.quantization is not None:
        return "fp8" if config.vllm.quantization == "fp8" else "int4"
    if "quantization_config" not in shape:
        return "none"
    stored = shape["quantization_config"]
    known: dict[Any, Quantization] = {4: "int4", 8: "int8"}
    return "fp8" if stored.get("quant_method") == "fp8" else known.get(stored.get("bits"))
