"""Bases with random weights, made in place: as fast and as large as real ones, but without a meaning."""

import shutil
from pathlib import Path
from typing import Any

import torch

from llama_platform.models.base_model import BaseConfig

LLAMA_2_7B: dict[str, int] = {
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32_000,
    "max_position_embeddings": 4096,
}
"""The shape of Llama-2-7B, as keyword arguments of LlamaConfig."""


def random_base(shape: dict[str, int], dtype: torch.dtype, device: torch.device) -> Any:
    """Return a `LlamaForCausalLM` with random weights, made on the device.

    Args:
        shape: keyword arguments of LlamaConfig.
        dtype: what the weights are made in.
        device: where they are made and stay.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return LlamaForCausalLM(LlamaConfig(**shape))
    finally:
        torch.set_default_dtype(usual)


def write_random_base(shape: dict[str, int], folder: Path) -> Path:
    """Write a base of a shape, bfloat16, with the tiny base's tokenizer, and return its folder."""
    random_base(shape, torch.bfloat16, torch.device("cpu")).save_pretrained(folder)
    for name in ("tokenizer_config.json", "tokenizer.json"):
        shutil.copy(Path(BaseConfig(model="tiny").location()) / name, folder / name)
    return folder
