import pytest
import torch
from torch.nn import functional as F

from llama_platform.training.objectives.head_loss import SLICE_POSITIONS, FrozenHeadLoss, head_nll


@pytest.mark.parametrize("positions", [1, SLICE_POSITIONS, 3 * SLICE_POSITIONS + 7])
def test_loss_and_gradient_equal_those_of_plain_cross_entropy(positions):
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 300, bias=False).requires_grad_(False)
    hidden = (10 * torch.randn(positions, 16)).requires_grad_()
    targets = torch.randint(0, 300, (positions,))
    weights = torch.randn(positions)
    expected = F.cross_entropy(head(hidden), targets, reduction="none")
    (wanted,) = torch.autograd.grad((weights * expected).sum(), hidden)
    found = head_nll(head, hidden, targets)
    (gradient,) = torch.autograd.grad((weights * found).sum(), hidden)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert torch.allclose(gradient, wanted, rtol=1e-4, atol=1e-5)


def test_nothing_counted_is_a_loss_of_zero():
    head = torch.nn.Linear(4, 9, bias=False).requires_grad_(False)
    hidden = torch.zeros(0, 4, requires_grad=True)
    loss = head_nll(head, hidden, torch.zeros(0, dtype=torch.long)).sum()
    loss.backward()
    assert loss.item() == 0


def test_a_head_that_is_trained_takes_the_plain_way():
    head, hidden = torch.nn.Linear(4, 9, bias=False), torch.randn(5, 4)
    head_nll(head, hidden, torch.arange(5)).sum().backward()
    assert head.weight.grad is not None


def test_half_precision_keeps_its_type():
    weight, hidden = torch.randn(50, 8).bfloat16(), torch.randn(6, 8).bfloat16().requires_grad_()
    loss = FrozenHeadLoss.apply(hidden, weight, torch.arange(6)).sum()
    loss.backward()
    assert (loss.dtype, hidden.grad.dtype) == (torch.float32, torch.bfloat16)
