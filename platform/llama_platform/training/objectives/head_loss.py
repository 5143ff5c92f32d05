"""Head loss: cross-entropy through a frozen output head, a slice of positions at a time.

Logits of a whole batch are the largest tensor of a LoRA step. Since the head gets no gradient, that of its input can
be computed together with the loss, and no logits outlive their slice (as in Liger Kernel, arXiv 2410.10989).
"""

from typing import Any

import torch
from torch.nn import functional as F

SLICE_POSITIONS = 128


class FrozenHeadLoss(torch.autograd.Function):
    """Letters: N positions, H hidden size, V vocabulary."""

    @staticmethod
    def forward(ctx: Any, hidden_NH: torch.Tensor, weight_VH: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        """Return the negative log-likelihood of each target, float32 [N].

        Args:
            ctx: autograd's context.
            hidden_NH: input of the head, any floating type.
            weight_VH: weights of the head; get no gradient.
            targets_N: int64.
        """
        nll_N = torch.empty(len(targets_N), dtype=torch.float32, device=hidden_NH.device)
        gradient_NH = torch.empty_like(hidden_NH) if ctx.needs_input_grad[0] else None
        for start in range(0, len(targets_N), SLICE_POSITIONS):
            here = slice(start, start + SLICE_POSITIONS)
            logits_nV = F.linear(hidden_NH[here], weight_VH).float()
            targets_n1 = targets_N[here, None]
            chosen_n1, highest_n1 = logits_nV.gather(1, targets_n1), logits_nV.amax(1, keepdim=True)
            weights_nV = logits_nV.sub_(highest_n1).exp_()
            sum_n1 = weights_nV.sum(1, keepdim=True)
            nll_N[here] = (sum_n1.log() + highest_n1 - chosen_n1)[:, 0]
            if gradient_NH is not None:
                difference_nV = weights_nV.div_(sum_n1)
                difference_nV.scatter_add_(1, targets_n1, torch.full_like(sum_n1, -1.0))
                gradient_NH[here] = difference_nV.to(weight_VH.dtype) @ weight_VH
        if gradient_NH is not None:
            ctx.save_for_backward(gradient_NH)
        return nll_N

    @staticmethod
    def backward(ctx: Any, gradient_N: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return the gradient of the hidden states, [N, H] in their dtype, for one of the losses, float32 [N]."""
        (gradient_NH,) = ctx.saved_tensors
        return gradient_NH * gradient_N[:, None].to(gradient_NH.dtype), None, None


def head_nll(head: torch.nn.Linear, hidden_NH: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    """Return the negative log-likelihood of each target behind an output head, float32 [N].

    Args:
        head: layer without bias from hidden states to the vocabulary.
        hidden_NH: float [N, H] in the head's dtype.
        targets_N: int64 [N], token ids.
    """
    # ZeRO 3 holds a part of the weight here, and gathers it when the module is called.
    if head.weight.requires_grad or hasattr(head.weight, "ds_id"):
        return F.cross_entropy(head(hidden_NH).float(), targets_N, reduction="none")
    return FrozenHeadLoss.apply(hidden_NH, head.weight, targets_N)  # type: ignore[no-any-return, no-untyped-call]
