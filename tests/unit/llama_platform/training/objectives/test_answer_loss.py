import pytest
import torch

from llama_platform.data.tokenize import collate
from llama_platform.models.adapter import LoraSettings, attach_lora
from llama_platform.models.base_model import load_base_model
from llama_platform.models.prompt import Message
from llama_platform.training.objectives.answer_loss import AnswerLoss
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


def test_loss_equals_that_of_transformers(tiny_config, tiny_template, chats):
    batch = collate(chats, tiny_template.pad_token_id())
    model = load_base_model(tiny_config)
    with torch.no_grad():
        expected = model(**batch).loss
        total = AnswerLoss(model)(**batch)
    counted = (batch["labels"][:, 1:] != -100).sum()
    assert torch.allclose(total / counted, expected, rtol=1e-5)


def test_padding_does_not_change_the_loss(tiny_config, tiny_template, chats):
    _, module = lora(tiny_config)
    pad = tiny_template.pad_token_id()
    with torch.no_grad():
        together = module(**collate(chats, pad))
        alone = sum(module(**collate([chat], pad)) for chat in chats)
    assert torch.allclose(together, alone, rtol=1e-5)


def test_scores_are_the_loss_and_the_hits(tiny_config, tiny_template, chats):
    batch = collate(chats, tiny_template.pad_token_id())
    model = load_base_model(tiny_config)
    nll, hits = AnswerLoss(model).score(**batch)
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        assert nll == pytest.approx(AnswerLoss(model)(**batch).item(), rel=1e-5)
    targets = batch["labels"][:, 1:]
    assert hits == int(((logits.argmax(-1) == targets) & (targets != -100)).sum())
