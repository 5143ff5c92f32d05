"""Attention over packed rows: every chat attends to itself alone. Runs wherever torch and transformers do."""

from collections.abc import Sequence
from functools import lru_cache, partial
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

    Nothing is computed between chats, where a block-diagonal mask would compute and discard it. On a GPU all chats are
    one call of FlashAttention in 16 bits; elsewhere each chat is a call.

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
    if query.is_cuda and query.dtype != torch.float32:
        return _all_at_once(query, key, value, tuple(lengths), scaling), None
    chats = (torch.split(tensor, list(lengths), dim=2) for tensor in (query, key, value))
    parts = [_causal(q, k, v, scaling) for q, k, v in zip(*chats, strict=True)]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _all_at_once(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: tuple[int, ...], scaling: float | None
) -> torch.Tensor:
    """Attend all chats in one call; with one for each, cuDNN would plan anew for every length, 2 ms each time."""
    from torch.nn.attention.varlen import varlen_attn

    offsets, longest = _offsets(lengths, query.device), max(lengths)
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    attend = partial(varlen_attn, enable_gqa=True) if query.shape[1] != key.shape[1] else varlen_attn
    causal = (-1, 0)
    attended: Any = attend(query, key, value, offsets, offsets, longest, longest, scale=scaling, window_size=causal)
    found: torch.Tensor = attended[None]
    return found


@lru_cache(maxsize=2)  # every layer of a pass asks for the same
def _offsets(lengths: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return int32 [chats + 1]: where each chat begins, and where the last ends."""
    return torch.tensor((0, *lengths)).cumsum(0).to(device, torch.int32)


def _causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None) -> torch.Tensor:
    dtype, grouped = query.dtype, query.shape[1] != key.shape[1]
    if query.device.type == "cpu" and dtype == torch.bfloat16 and query.shape[2] <= SHORT_CHAT:
        query, key, value = query.float(), key.float(), value.float()
    attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)
    return attended.to(dtype)
