"""Step: the loss of a batch and the learning rate of a step. Runs wherever torch and transformers do.

Letters: B chats, T tokens, H hidden size, N trained positions.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from llama_platform.data.tokenize import IGNORED_LABEL


class AnswerLoss(nn.Module):
    """A causal model that returns its loss instead of logits.

    Logits are computed at trained positions only: with a vocabulary of 32,000 they would otherwise be the
    largest tensor of the step.
    """

    def __init__(self, model: Any) -> None:
        """Wrap a `LlamaForCausalLM`, bare or with LoRA."""
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the summed negative log-likelihood (float32, scalar) of the trained tokens.

        Args:
            input_ids: int64 [B, T].
            attention_mask: int64 [B, T], 0 where there is padding.
            labels: int64 [B, T]; the token where it counts, else IGNORED_LABEL.
        """
        llama = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        hidden_BTH = llama.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)[0]
        targets_BT = labels[:, 1:]
        counted_BT = targets_BT != IGNORED_LABEL
        logits_NV = llama.lm_head(hidden_BTH[:, :-1][counted_BT])
        return F.cross_entropy(logits_NV.float(), targets_BT[counted_BT], reduction="sum")


def learning_rate_at(step: int, steps: int, peak: float, warmup_fraction: float) -> float:
    """Return the learning rate of a step (from 0): a linear rise, then half a cosine down to zero."""
    warmup = max(1, round(steps * warmup_fraction))
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


def prepare_for_training(model: Any, *, gradient_checkpointing: bool) -> AnswerLoss:
    """Return the loss module of a LoRA model, in training mode."""
    model.config.use_cache = False
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return AnswerLoss(model).train()
