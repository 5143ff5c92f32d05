import pytest
import torch

from llama_platform.data.packing import pack
from llama_platform.data.tokenize import collate
from lora_modules import gradients, lora


def test_packed_chats_have_the_loss_and_gradients_of_chats_alone(tiny_config, tiny_template, chats):
    alone, module = lora(tiny_config)
    for chat in chats:
        nll = module(**collate([chat], tiny_template.pad_token_id()))
        nll.backward()
    expected = sum(module(**collate([chat], tiny_template.pad_token_id())).item() for chat in chats)
    together, packed = lora(tiny_config, packed=True)
    nll = packed(**pack(chats))
    nll.backward()
    assert nll.item() == pytest.approx(expected, rel=1e-5)
    for name, gradient in gradients(together).items():
        assert torch.allclose(gradient, gradients(alone)[name], rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_only_lora_matrices_get_gradients(tiny_config, tiny_template, chats, checkpointing, packed):
    model, module = lora(tiny_config, checkpointing=checkpointing, packed=packed)
    module(**(pack(chats) if packed else collate(chats, tiny_template.pad_token_id()))).backward()
    named = dict(model.named_parameters())
    assert all(p.grad is None for n, p in named.items() if "lora_" not in n)
    assert all(torch.isfinite(p.grad).all() for n, p in named.items() if "lora_B" in n)
    assert any(p.grad.abs().sum() > 0 for n, p in named.items() if "lora_B" in n)
