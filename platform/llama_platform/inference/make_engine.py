"""The configured engine, whichever it is."""

from typing import Any, Literal

import torch

from llama_platform.device import CPU
from llama_platform.errors import InputError
from llama_platform.inference.config import EngineConfig, VllmConfig
from llama_platform.inference.protocol import Engine
from llama_platform.models.base_model import BaseConfig


def engine_kind(config: EngineConfig, device: torch.device) -> Literal["torch", "vllm"]:
    """Return which engine serves on a device: vLLM on GPUs and ours on CPUs, unless the configuration names one.

    Raises:
        InputError: it names ours on a GPU.
    """
    if config.kind == "auto":
        return "torch" if device.type == "cpu" else "vllm"
    if config.kind == "torch" and device.type != "cpu":
        raise InputError("engine.kind torch computes on a CPU, and this replica has a GPU: use auto, or num_gpus: 0")
    return config.kind


def make_engine(
    base: BaseConfig, tokenizer: Any, threads: int, config: EngineConfig, device: torch.device = CPU, gpus: int = 1
) -> Engine:
    """Return an engine with its base loaded.

    Args:
        base: what to load.
        tokenizer: the base's.
        threads: number of threads of computation on a CPU.
        config: which engine, and its sizes.
        device: what it computes on.
        gpus: how many GPUs, `device` and those after it, the base is spread over.

    Raises:
        InputError: the base cannot be loaded, the engine is not installed, or a setting is for the other engine.
    """
    if engine_kind(config, device) == "vllm":
        from llama_platform.inference.vllm_engine import VllmEngine

        return VllmEngine(base, tokenizer, config, max(1, gpus) if device.type == "cuda" else 0)
    if config.vllm != VllmConfig():
        raise InputError("engine.vllm: is for vLLM, and this replica's engine is our own (engine.kind)")
    from llama_platform.inference.torch_engine.engine import TorchEngine

    return TorchEngine(base, tokenizer, threads, config)
