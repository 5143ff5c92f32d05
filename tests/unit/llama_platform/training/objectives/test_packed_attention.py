import pytest
import torch
from torch.nn import functional as F

from llama_platform.training.objectives.packed_attention import SHORT_CHAT, packed_attention


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (4, 2), (4, 1)])
def test_packed_attention_is_block_diagonal_and_causal(heads, key_heads):
    torch.manual_seed(0)
    lengths = (3, 1, 8)
    query, key, value = (torch.randn(1, h, 12, 16) for h in (heads, key_heads, key_heads))
    found, weights = packed_attention(None, query, key, value, None, lengths=lengths)
    block = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    mask = (block[:, None] == block[None]) & torch.ones(12, 12).tril().bool()
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    assert weights is None
    assert torch.allclose(found, expected.transpose(1, 2), atol=1e-6)


def test_short_and_long_chats_in_bfloat16_agree_with_float32():
    torch.manual_seed(0)
    lengths = (SHORT_CHAT, SHORT_CHAT + 1)
    query, key, value = (torch.randn(1, 2, sum(lengths), 8) for _ in range(3))
    exact, _ = packed_attention(None, query, key, value, None, lengths=lengths)
    halves, _ = packed_attention(None, query.bfloat16(), key.bfloat16(), value.bfloat16(), None, lengths=lengths)
    assert halves.dtype == torch.bfloat16
    assert torch.allclose(halves.float(), exact, atol=0.03)
