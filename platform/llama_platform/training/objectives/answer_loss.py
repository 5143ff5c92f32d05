"""AnswerLoss: a causal model that returns the loss on trained tokens instead of logits.

Letters: B chats, T tokens, H hidden size, N trained positions.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from llama_platform.data.tokenize import IGNORED_LABEL
from llama_platform.training.objectives.head_loss import head_nll


class AnswerLoss(nn.Module):
    """A causal model that returns its loss instead of logits.

    The output head works at trained positions only.
    """

    wins = 0
    """Of a loss over pairs: how many of them were won outside of training mode, since this was last set to 0."""

    def __init__(self, model: Any) -> None:
        """Wrap a `LlamaForCausalLM`, bare or with LoRA."""
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        lengths: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Return the summed negative log-likelihood (float32, scalar) of the trained tokens.

        Args:
            input_ids: int64 [B, T].
            labels: int64 [B, T]; the token where it counts, else IGNORED_LABEL.
            attention_mask: int64 [B, T], 0 where there is padding; None for packed rows.
            position_ids: int64 [1, T], of packed rows.
            lengths: tokens of each chat in a packed row.
        """
        where = {"attention_mask": attention_mask} if lengths is None else {"lengths": lengths}
        hidden_NH, targets_N = self._trained_positions(input_ids, labels, position_ids=position_ids, **where)
        return head_nll(self._llama().lm_head, hidden_NH, targets_N).sum()

    def counted(self, labels: torch.Tensor, **_: Any) -> torch.Tensor:
        """Return what the loss of a batch is a sum over, an int64 scalar: the trained tokens."""
        return (labels[:, 1:] != IGNORED_LABEL).sum()

    @torch.inference_mode()
    def score(self, input_ids: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor) -> tuple[float, int]:
        """Return the summed negative log-likelihood of a padded batch, and how many tokens were the likeliest.

        Args:
            input_ids: int64 [B, T].
            labels: int64 [B, T]; the token where it counts, else IGNORED_LABEL.
            attention_mask: int64 [B, T], 0 where there is padding.
        """
        hidden_NH, targets_N = self._trained_positions(input_ids, labels, attention_mask=attention_mask)
        logits_NV = self._llama().lm_head(hidden_NH).float()
        nll = F.cross_entropy(logits_NV, targets_N, reduction="sum").item()
        return nll, int((logits_NV.argmax(1) == targets_N).sum())

    def _trained_positions(
        self, input_ids: torch.Tensor, labels: torch.Tensor, **where: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden_BTH = self._llama().model(input_ids=input_ids, use_cache=False, **where)[0]
        targets_BT = labels[:, 1:]
        counted_BT = targets_BT != IGNORED_LABEL
        return hidden_BTH[:, :-1][counted_BT], targets_BT[counted_BT]

    def _llama(self) -> Any:
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
