import pytest
import torch

from llama_platform.data.tokenize import collate
from llama_platform.models.base_model import load_base_model
from llama_platform.training.objectives.answer_loss import AnswerLoss
from lora_modules import lora


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
