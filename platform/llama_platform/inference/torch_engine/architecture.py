"""Architecture: the shape of a Llama-family model, as its config.json says it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_platform.errors import InputError

# What would change the computation, and the values that leave it as it is here.
_PLAIN = {
    "model_type": ("llama",),
    "hidden_act": (None, "silu"),
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "quantization_config": (None,),
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of a model, and the frequencies of its rotary embedding."""

    vocab_size: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    norm_epsilon: float
    tied_embeddings: bool
    max_positions: int
    inverse_frequencies: tuple[float, ...]
    """[head_dim / 2], in radians per position."""
    rope_scale: float
    """Factor of the cosines and sines."""

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """Return (outputs, inputs) of the seven projections of a layer, in the order in which they are computed."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (queries, self.hidden),
            "k_proj": (keys, self.hidden),
            "v_proj": (keys, self.hidden),
            "o_proj": (self.hidden, queries),
            "gate_proj": (self.intermediate, self.hidden),
            "up_proj": (self.intermediate, self.hidden),
            "down_proj": (self.hidden, self.intermediate),
        }

    def adapter_values(self, rank: int) -> int:
        """Return the numbers that a LoRA adapter of a rank on every projection holds."""
        return self.layers * rank * sum(outputs + inputs for outputs, inputs in self.projections.values())


def read_architecture(folder: Path) -> Architecture:
    """Return the architecture of the model in `folder`.

    Raises:
        InputError: there is no config.json, or it asks for what is not supported.
    """
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    for key, allowed in _PLAIN.items():
        if found.get(key) not in allowed:
            raise InputError(f"{path}: {key} is {found.get(key)!r}; the torch engine serves {allowed[-1]!r} only")
    frequencies, scale = _rotary(found, path)
    heads = int(found["num_attention_heads"])
    return Architecture(
        vocab_size=int(found["vocab_size"]),
        hidden=int(found["hidden_size"]),
        layers=int(found["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(found.get("num_key_value_heads") or heads),
        head_dim=int(found.get("head_dim") or found["hidden_size"] // heads),
        intermediate=int(found["intermediate_size"]),
        norm_epsilon=float(found.get("rms_norm_eps", 1e-6)),
        tied_embeddings=bool(found.get("tie_word_embeddings", False)),
        max_positions=int(found.get("max_position_embeddings", 2048)),
        inverse_frequencies=frequencies,
        rope_scale=scale,
    )


def _rotary(found: dict[str, Any], path: Path) -> tuple[tuple[float, ...], float]:
    """Return the inverse frequencies and the scale, as transformers computes them for every kind of RoPE scaling."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    try:
        config = LlamaConfig(**found)
        kind = config.rope_parameters["rope_type"]
        if kind in ("dynamic", "longrope"):
            raise InputError(f"{path}: RoPE of type {kind!r} changes with the length of the prompt; not supported")
        rotary = LlamaRotaryEmbedding(config)
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: RoPE cannot be read: {error}") from error
    return tuple(rotary.inv_freq.tolist()), float(rotary.attention_scaling)
