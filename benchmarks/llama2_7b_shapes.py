"""Writes a base with the shapes of Llama-2-7B and random weights: 13.5 GB of bfloat16, one file for each layer.

    python -m benchmarks.llama2_7b_shapes .cache/llama2-7b-shapes

What it says means nothing; its speed and its memory are those of the real one. It takes one layer of memory.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from llama_platform.models.base_model import BaseConfig, load_template
from llama_platform.models.random_base import LLAMA_2_7B


def main() -> int:
    """Write the base and print where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=LLAMA_2_7B["num_hidden_layers"], help="fewer for less memory")
    arguments = parser.parse_args()
    print(write_base(arguments.folder, LLAMA_2_7B | {"num_hidden_layers": arguments.layers}))
    return 0


def write_base(folder: Path, shape: dict[str, int], device: str = "cpu") -> Path:
    """Write a base with random weights unless it is there, and return its folder.

    Args:
        folder: where to; its `config.json` is written last, so a folder that has one is whole.
        shape: keyword arguments of LlamaConfig.
        device: where the random numbers are drawn, as torch names it.
    """
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator(device).manual_seed(0)
    places: dict[str, str] = {}
    total = 0
    for number, tensors in enumerate(_files(shape, generator)):
        file = f"model-{number:05}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, file)
        total += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    load_template(BaseConfig(model="tiny")).tokenizer.save_pretrained(folder)
    config = LlamaConfig(architectures=["LlamaForCausalLM"], dtype="bfloat16", **shape)
    config.save_pretrained(folder)
    return folder


def _files(shape: dict[str, int], generator: torch.Generator) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the tensors of each file: embeddings, head and last norm, then layer by layer."""
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    keys = shape["num_key_value_heads"] * (hidden // shape["num_attention_heads"])

    def drawn(*size: int) -> torch.Tensor:
        values = torch.empty(size, dtype=torch.bfloat16, device=generator.device)
        return values.normal_(0, 0.02, generator=generator).cpu()

    def ones() -> torch.Tensor:
        return torch.ones(hidden, dtype=torch.bfloat16)

    vocabulary = shape["vocab_size"]
    yield {
        "model.embed_tokens.weight": drawn(vocabulary, hidden),
        "lm_head.weight": drawn(vocabulary, hidden),
        "model.norm.weight": ones(),
    }
    sizes: dict[str, Any] = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    for layer in range(shape["num_hidden_layers"]):
        tensors = {f"{name}.weight": drawn(*size) for name, size in sizes.items()}
        tensors |= {"input_layernorm.weight": ones(), "post_attention_layernorm.weight": ones()}
        yield {f"model.layers.{layer}.{name}": tensor for name, tensor in tensors.items()}


if __name__ == "__main__":
    raise SystemExit(main())
