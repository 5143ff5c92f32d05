import pytest
import torch

from llama_platform.models.adapter import attach_lora
from llama_platform.models.base_model import load_base_model
from llama_platform.models.lora_settings import LoraSettings
from llama_platform.training.objectives.packed_dropout import PackedDropout, use_packed_dropout


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_of_zeros_and_the_mean_are_those_of_dropout(p, dtype):
    torch.manual_seed(0)
    dropped = PackedDropout(p)(torch.ones(1001, 333, dtype=dtype)).float()
    assert (dropped == 0).float().mean().item() == pytest.approx(p, abs=0.003)
    assert dropped.max().item() == pytest.approx(1 / (1 - p), rel=0.01)
    rows = (dropped == 0).float().mean(1)
    assert rows.std().item() == pytest.approx((p * (1 - p) / 333) ** 0.5, rel=0.15)


def test_neighbours_are_independent():
    torch.manual_seed(0)
    zero = (PackedDropout(0.5)(torch.ones(400_000)) == 0).float() - 0.5
    for distance in range(1, 9):
        assert abs((zero[:-distance] * zero[distance:]).mean().item()) < 0.002


def test_the_seed_decides_and_evaluation_drops_nothing():
    layer, values = PackedDropout(0.3), torch.randn(77)
    torch.manual_seed(5)
    first = layer(values)
    torch.manual_seed(5)
    assert torch.equal(layer(values), first)
    assert layer.eval()(values) is values


def test_gradients_pass_where_values_passed():
    values = torch.ones(100, requires_grad=True)
    torch.manual_seed(0)
    dropped = PackedDropout(0.25)(values)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach())


def test_it_takes_the_place_of_every_dropout_in_front_of_lora(tiny_config):
    model = attach_lora(load_base_model(tiny_config), LoraSettings(r=2, dropout=0.1), seed=0)
    use_packed_dropout(model)
    kinds = {type(m.lora_dropout["default"]) for m in model.modules() if hasattr(m, "lora_dropout")}
    assert kinds == {PackedDropout}
