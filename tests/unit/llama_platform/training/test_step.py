import pytest
import torch

from llama_platform.data.packing import pack
from llama_platform.data.tokenize import collate
from llama_platform.models.adapter import LoraSettings, attach_lora
from llama_platform.models.base_model import load_base_model
from llama_platform.models.prompt import Message
from llama_platform.training.step import prepare_for_training


@pytest.fixture
def chats(tiny_template):
    texts = [("hello", "hi there"), ("what is a lamp for", "a lamp is used to give light"), ("bye", "see you")]
    encoded = [tiny_template.encode_chat([Message("user", q), Message("assistant", a)]) for q, a in texts]
    return [{"input_ids": chat.input_ids, "trained": chat.trained} for chat in encoded]


def lora(tiny_config, *, checkpointing=False, packed=False, dropout=0.0):
    settings = LoraSettings(r=4, targets="all-linear", dropout=dropout)
    model = attach_lora(load_base_model(tiny_config), settings, seed=0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return model, prepare_for_training(model, gradient_checkpointing=checkpointing, packed=packed)


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


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
