"""Model: a Llama loaded for generation, with its KV cache; what runs it differs by device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from llama_platform.inference.torch_engine.architecture import Architecture
from llama_platform.inference.torch_engine.batch import Batch
from llama_platform.models.weight_files import Weights

LoraMatrices = Mapping[tuple[int, str], tuple[torch.Tensor, torch.Tensor]]
"""By layer and projection: A [rank, inputs] and B [outputs, rank], float32, with the adapter's scale in B."""
FUSED = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
"""Projections of a layer that share their input and are computed as one product."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How fast this process can read the weights that each token needs: the limit of answering one request."""

    size_bytes: int
    """What a token reads."""
    gbytes_per_s: float
    """The best rate that was seen. Memory of a virtual machine may be near to its processor or far, at half the speed,
    so it is the rate of these weights and of no other place."""


class Model(Protocol):
    """What the engine drives."""

    architecture: Architecture

    def forward(self, batch: Batch, adapters: Sequence[Any]) -> torch.Tensor:
        """Compute a step, fill the KV cache, and return float32 logits [wanted, vocabulary] on the CPU.

        Pages that the batch begins are filled with zeros first.

        Args:
            batch: its adapters are places in `adapters`.
            adapters: what `pack_adapter` returned.
        """
        ...

    def pack_adapter(self, matrices: LoraMatrices) -> Any:
        """Return an adapter in the form that `forward` reads; it has `size_bytes`. May run in another thread."""
        ...

    def reset_cache(self) -> None:
        """Forget every page of the KV cache, as after a step that broke."""
        ...

    def memory(self) -> dict[str, int]:
        """Return bytes of weights and KV cache."""
        ...

    def products_in_words(self) -> dict[str, str]:
        """Return what computes each kind of matrix product; empty where there is one way only."""
        ...

    def reading(self) -> Reading | None:
        """Return how fast the weights can be read; None where that is not measured. No step may run meanwhile."""
        ...


@dataclass(frozen=True, slots=True)
class LayerTensors:
    """Weights of a layer as their file holds them; the groups of `FUSED` are lists."""

    input_norm: torch.Tensor
    attention_norm: torch.Tensor
    fused: tuple[list[torch.Tensor], ...]


def read_layer(weights: Weights, architecture: Architecture, layer: int) -> LayerTensors:
    """Return the tensors of a layer: norms [hidden], projections [outputs, inputs], in the dtype of their file.

    Raises:
        InputError: one is missing or of another shape.
    """
    prefix, width = f"model.layers.{layer}.", architecture.hidden
    shapes = architecture.projections

    def projection(name: str) -> torch.Tensor:
        block = "self_attn" if name in (*FUSED[0], *FUSED[1]) else "mlp"
        return weights.read(f"{prefix}{block}.{name}.weight", shapes[name])

    return LayerTensors(
        weights.read(f"{prefix}input_layernorm.weight", (width,)),
        weights.read(f"{prefix}post_attention_layernorm.weight", (width,)),
        tuple([projection(name) for name in names] for names in FUSED),
    )


def rotary_table(architecture: Architecture, positions: int) -> torch.Tensor:
    """Return float32 [positions, head_dim]: cosines, then sines, of the rotary embedding (Su et al., 2021)."""
    frequencies = torch.tensor(architecture.inverse_frequencies, dtype=torch.float32)
    angles = torch.arange(positions, dtype=torch.float32)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1) * architecture.rope_scale
