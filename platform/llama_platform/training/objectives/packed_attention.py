"""Attention over packed rows: every chat attends to itself alone. Runs wherever torch and transformers do."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AttentionInterface

PACKED_ATTENTION = "packed"
SHORT_CHAT = 256
"""Up to this many tokens, torch's bfloat16 attention on CPUs takes up to twice the time of its float32 attention."""


def use_packed_attention(model: Any) -> None:
    """Let a `LlamaForCausalLM` take packed rows, given `lengths` beside its input; only such rows from then on."""
    AttentionInterface.register(PACKED_ATTENTION, packed_attention)
    model.set_attn_implementation(PACKED_ATTENTION)


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    lengths: Sequence[int],
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Return causal attention within each chat, in the form that transformers expects.

    One fused call per chat does no work between chats, where a block-diagonal mask would compute and discard it.

    Args:
        module: the attention layer; not used.
        query: [1, heads, N, head size].
        key: [1, key heads, N, head size]; key heads divide heads.
        value: like `key`.
        attention_mask: None; packed rows have no padding.
        lengths: tokens of each chat; their sum is N.
        scaling: factor of the scores.

    Returns:
        [1, N, heads, head size], and no weights.
    """
    chats = (torch.split(tensor, list(lengths), dim=2) for tensor in (query, key, value))
    parts = [_causal(q, k, v, scaling) for q, k, v in zip(*chats, strict=True)]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None) -> torch.Tensor:
    dtype, grouped = query.dtype, query.shape[1] != key.shape[1]
    if query.device.type == "cpu" and dtype == torch.bfloat16 and query.shape[2] <= SHORT_CHAT:
        query, key, value = query.float(), key.float(), value.float()
    attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)
    return attended.to(dtype)
