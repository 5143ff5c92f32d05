import itertools

import pytest
import torch

from llama_platform.data.tokenize import collate
from llama_platform.models.adapter import LoraSettings, attach_lora
from llama_platform.models.base_model import load_base_model
from llama_platform.models.prompt import Message
from llama_platform.training.step import learning_rate_at, prepare_for_training


@pytest.fixture
def chats(tiny_template):
    texts = [("hello", "hi there"), ("what is a lamp for", "a lamp is used to give light")]
    encoded = [tiny_template.encode_chat([Message("user", q), Message("assistant", a)]) for q, a in texts]
    return [{"input_ids": chat.input_ids, "trained": chat.trained} for chat in encoded]


def test_loss_equals_that_of_transformers(tiny_config, tiny_template, chats):
    batch = collate(chats, tiny_template.tokenizer.pad_token_id)
    model = load_base_model(tiny_config)
    with torch.no_grad():
        expected = model(**batch).loss
        total = prepare_for_training(model, gradient_checkpointing=False)(**batch)
    counted = (batch["labels"][:, 1:] != -100).sum()
    assert torch.allclose(total / counted, expected, rtol=1e-5)


def test_padding_does_not_change_the_loss(tiny_config, tiny_template, chats):
    module = prepare_for_training(load_base_model(tiny_config), gradient_checkpointing=False)
    pad = tiny_template.tokenizer.pad_token_id
    with torch.no_grad():
        together = module(**collate(chats, pad))
        alone = sum(module(**collate([chat], pad)) for chat in chats)
    assert torch.allclose(together, alone, rtol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_only_lora_matrices_get_gradients(tiny_config, tiny_template, chats, checkpointing):
    model = attach_lora(load_base_model(tiny_config), LoraSettings(r=4, targets="all-linear"), seed=0)
    module = prepare_for_training(model, gradient_checkpointing=checkpointing)
    module(**collate(chats, tiny_template.tokenizer.pad_token_id)).backward()
    named = dict(model.named_parameters())
    assert all(p.grad is None for n, p in named.items() if "lora_" not in n)
    assert all(torch.isfinite(p.grad).all() for n, p in named.items() if "lora_B" in n)
    assert any(p.grad.abs().sum() > 0 for n, p in named.items() if "lora_B" in n)


def test_learning_rate_rises_then_falls_to_zero():
    rates = [learning_rate_at(step, 100, 1.0, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
    assert rates[-1] < 0.01
