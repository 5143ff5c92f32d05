"""The configured engine, whichever it is."""

from typing import Any

from llama_platform.inference.config import EngineConfig
from llama_platform.inference.protocol import Engine
from llama_platform.models.base_model import BaseConfig


def make_engine(base: BaseConfig, tokenizer: Any, threads: int, config: EngineConfig) -> Engine:
    """Return an engine with its base loaded.

    Args:
        base: what to load.
        tokenizer: the base's.
        threads: number of threads of computation on a CPU.
        config: which engine, and its sizes.

    Raises:
        InputError: the base cannot be loaded, or the engine is not installed.
    """
    if config.kind == "vllm":
        from llama_platform.inference.vllm_engine import VllmEngine

        return VllmEngine(base, tokenizer, config)
    from llama_platform.inference.torch_engine.engine import TorchEngine

    return TorchEngine(base, tokenizer, threads, config)
