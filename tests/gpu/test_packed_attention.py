import pytest
import torch

from llama_platform.training.objectives.packed_attention import packed_attention

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("key_heads", [8, 2])
def test_all_chats_in_one_call_attend_as_in_float32_on_a_cpu(key_heads):
    generator, lengths = torch.Generator().manual_seed(0), (37, 300, 1, 130)
    whole = sum(lengths)
    query, key, value = (torch.randn(1, heads, whole, 64, generator=generator) for heads in (8, key_heads, key_heads))
    expected, _ = packed_attention(None, query, key, value, None, lengths=lengths, scaling=0.125)
    on_gpu = [tensor.cuda().bfloat16().requires_grad_() for tensor in (query, key, value)]
    found, _ = packed_attention(None, *on_gpu, None, lengths=lengths, scaling=0.125)
    assert torch.allclose(found.cpu().float(), expected, atol=0.03)
    found.float().square().sum().backward()
    assert all(tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0 for tensor in on_gpu)
