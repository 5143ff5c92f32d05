"""Merging: an adapter folded into its base as one model, and how far its logits are from those of the two apart."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llama_platform.errors import InputError
from llama_platform.models.adapter import merge_into_base, open_adapter
from llama_platform.models.base_model import BaseConfig, Precision, load_base_model, load_template
from llama_platform.models.prompt import Message


@dataclass(frozen=True, slots=True)
class LogitGap:
    """Differences between the merged model as written and base with adapter, over all positions of the probes."""

    largest: float
    mean: float
    same_top_token: float
    """Share of positions with the same likeliest token."""
    positions: int


def merge_adapter(base: BaseConfig, adapter: Path, output: Path, dtype: Precision, probes: tuple[str, ...]) -> LogitGap:
    """Write base and adapter as one model and its tokenizer, and measure it against the two apart.

    The sum is computed in float32 and then rounded to `dtype`, so that it is rounded once only.

    Args:
        base: base model that the adapter was trained for.
        adapter: a PEFT folder.
        output: a folder that does not exist, or is empty.
        dtype: type of the written weights.
        probes: questions whose logits are compared.

    Raises:
        InputError: the folder is not empty, or base or adapter cannot be loaded.
        IntegrityError: the adapter does not fit the base.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: exists and is not empty; choose another folder")
    template = load_template(base)
    prompts = [template.encode_prompt([Message("user", probe)]) for probe in probes]
    exact = base.model_copy(update={"dtype": "float32", "quantize": "none"})
    model = open_adapter(load_base_model(exact), adapter, "merged")
    apart = [_logits(model, prompt) for prompt in prompts]
    merged = merge_into_base(model).to(getattr(torch, dtype))
    merged.save_pretrained(output, safe_serialization=True)
    template.tokenizer.save_pretrained(output)
    del model, merged
    written = load_base_model(base.model_copy(update={"model": str(output), "revision": None, "dtype": dtype}))
    together = [_logits(written, prompt) for prompt in prompts]
    return _gap(torch.cat(apart), torch.cat(together))


@torch.inference_mode()
def _logits(model: Any, prompt: list[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([prompt])).logits[0].float()  # type: ignore[no-any-return]


def _gap(apart: torch.Tensor, together: torch.Tensor) -> LogitGap:
    difference = (apart - together).abs()
    same = (apart.argmax(1) == together.argmax(1)).float().mean()
    return LogitGap(difference.max().item(), difference.mean().item(), same.item(), len(apart))
