import pytest
import torch
from torch.nn import functional as F

from llama_platform.data.packing import pack
from llama_platform.data.tokenize import IGNORED_LABEL, collate
from llama_platform.models.adapter import attach_lora
from llama_platform.models.base_model import load_base_model
from llama_platform.models.lora_settings import LoraSettings
from llama_platform.models.prompt import Message
from llama_platform.training.objectives.preference_loss import PreferenceLoss
from llama_platform.training.step import prepare_for_training

BETA = 0.3


@pytest.fixture
def pairs(tiny_template):
    """Two pairs of tokenized chats, in turn a better and a worse one."""
    texts = [
        ("hello", "hi there"), ("hello", "go away now"),
        ("what is a lamp for", "a lamp is used to give light"), ("what is a lamp for", "no idea"),
    ]  # fmt: skip
    encoded = [tiny_template.encode_chat([Message("user", q), Message("assistant", a)]) for q, a in texts]
    return [{"input_ids": chat.input_ids, "trained": chat.trained} for chat in encoded]


@pytest.fixture
def make(tiny_config):
    """A PreferenceLoss whose adapter says something already, with dropout off."""

    def make(packed=False):
        model = attach_lora(load_base_model(tiny_config), LoraSettings(dropout=0.0), seed=0)
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        module = prepare_for_training(model, gradient_checkpointing=False, packed=packed, beta=BETA)
        assert isinstance(module, PreferenceLoss)
        return model, module

    return make


def plainly(model, batch):
    """The loss by its formula, chat by chat, from logits of transformers."""

    def log_probabilities():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
        targets = batch["labels"][:, 1:]
        logps = logits[:, :-1].log_softmax(-1).gather(2, targets.clamp(min=0)[..., None])[..., 0]
        return (logps * (targets != IGNORED_LABEL)).sum(1)

    with torch.no_grad(), model.disable_adapter():
        reference = log_probabilities()
    gained = log_probabilities() - reference
    return -F.logsigmoid(BETA * (gained[::2] - gained[1::2])).sum()


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("packed", [False, True])
def test_loss_and_gradients_are_those_of_the_formula(make, tiny_template, pairs, packed):
    padded = collate(pairs, tiny_template.pad_token_id())
    model, _ = make()
    expected = plainly(model, padded)
    expected.backward()
    wanted = gradients(model)
    model, module = make(packed)
    found = module(**(pack(pairs) if packed else padded))
    found.backward()
    assert torch.allclose(found, expected, rtol=1e-5)
    for name, gradient in gradients(model).items():
        assert torch.allclose(gradient, wanted[name], rtol=2e-3, atol=1e-6), name


def test_where_the_adapter_says_nothing_yet_the_loss_is_that_of_a_coin(tiny_config, tiny_template, pairs):
    model = attach_lora(load_base_model(tiny_config), LoraSettings(), seed=0)
    module = prepare_for_training(model, gradient_checkpointing=False, packed=False, beta=BETA).eval()
    loss = module(**collate(pairs, tiny_template.pad_token_id()))
    assert loss.item() == pytest.approx(2 * torch.log(torch.tensor(2.0)).item(), abs=1e-5)


def test_only_pairs_that_say_something_count(make, tiny_template, pairs):
    batch = collate(pairs, tiny_template.pad_token_id())
    _, module = make()
    assert module.counted(**batch) == 2
    whole = module.eval()(**batch)
    assert 0 <= module.wins <= 2
    batch["labels"][2:] = IGNORED_LABEL
    module.wins = 0
    assert module.counted(**batch) == 1
    assert 0 < module(**batch) < whole
    batch["labels"][:] = IGNORED_LABEL
    assert (module.counted(**batch), module(**batch), module.wins <= 1) == (0, 0, True)


def test_training_prefers_what_was_chosen(make, tiny_template, pairs):
    batch = collate(pairs, tiny_template.pad_token_id())
    model, module = make()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = module(**batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    module.eval()(**batch)
    assert module.wins == 2
