import pytest
import torch

from llama_platform.data.packing import pack
from llama_platform.data.tokenize import collate
from llama_platform.errors import DivergedError, TrainingError
from llama_platform.training.step import MAX_SCALES, TrainingStep
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


class OverflowingEngine:
    """A DeepSpeed engine whose first steps are not applied, as in float16."""

    def __init__(self, overflows, float16=True):
        self.fp16_enabled = lambda: float16
        self.optimizer = type("Optimizer", (), {"param_groups": [{}]})()
        self.overflows, self.dropout, self.passes = overflows, [], 0

    def __call__(self, **_):
        self.dropout.append(torch.rand(()).item())
        return torch.tensor(2.0, requires_grad=True)

    def backward(self, loss):
        pass

    def zero_optimization_stage(self):
        return 2

    def step(self):
        self.passes += 1

    def was_step_applied(self):
        return self.passes > self.overflows


def test_a_step_that_overflows_is_done_again_with_the_same_dropout():
    engine = OverflowingEngine(overflows=3)
    total = TrainingStep(engine, torch.device("cpu"), seed=1).run(0, {0: {}}, 1, 4, 1e-3)
    assert (engine.passes, total.item()) == (4, 2.0)
    assert len(set(engine.dropout)) == 1


def test_a_step_that_overflows_at_every_scale_ends_the_run():
    engine = OverflowingEngine(overflows=1000)
    with pytest.raises(TrainingError, match=r"step 8: float16 .* train in bfloat16"):
        TrainingStep(engine, torch.device("cpu"), seed=1).run(7, {0: {}}, 1, 4, 1e-3)
    assert engine.passes == MAX_SCALES


def test_in_a_wider_type_a_step_that_is_not_applied_ends_the_run_at_once():
    engine = OverflowingEngine(overflows=1000, float16=False)
    with pytest.raises(DivergedError, match=r"step 8: gradients are infinite or not a number"):
        TrainingStep(engine, torch.device("cpu"), seed=1).run(7, {0: {}}, 1, 4, 1e-3)
    assert engine.passes == 1
