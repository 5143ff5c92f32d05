"""PreferenceLoss: direct preference optimization of an adapter (DPO; Rafailov et al., 2023, arXiv 2305.18290).

The reference model is the base, which is the same model with its adapter switched off: no second copy is held. Chosen
and rejected answer of a pair are two chats behind one another, packed or padded as any.

Letters: B chats, T tokens, H hidden size, N trained positions, P pairs.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional as F

from llama_platform.data.tokenize import IGNORED_LABEL
from llama_platform.training.objectives.answer_loss import AnswerLoss
from llama_platform.training.objectives.head_loss import head_nll


class PreferenceLoss(AnswerLoss):
    """A LoRA model that returns how far it is from preferring the chosen answers.

    While it is not in training mode, it counts how often it prefers them.
    """

    def __init__(self, model: Any, beta: float) -> None:
        """Wrap a `LlamaForCausalLM` with LoRA.

        Args:
            model: the model; with its adapter switched off it is the reference.
            beta: how much it costs to leave the reference; larger stays nearer.
        """
        super().__init__(model)
        self._beta = beta

    def forward(
        self,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        lengths: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Return the summed loss of the pairs (float32, scalar): -log σ(β × the margin over the reference).

        Args:
            input_ids: int64 [B, T], chosen and rejected in turn; a packed row holds them one after the other.
            labels: int64 [B, T]; the token where it counts, else IGNORED_LABEL.
            attention_mask: int64 [B, T], 0 where there is padding; None for packed rows.
            position_ids: int64 [1, T], of packed rows.
            lengths: tokens of each chat in a packed row.
        """
        where: dict[str, Any] = {"attention_mask": attention_mask} if lengths is None else {"lengths": lengths}
        where["position_ids"] = position_ids
        chats_N, chats = _chats(labels, lengths)

        def log_probabilities() -> torch.Tensor:
            hidden_NH, targets_N = self._trained_positions(input_ids, labels, **where)
            nll_N = head_nll(self._llama().lm_head, hidden_NH, targets_N)
            return torch.zeros(chats, dtype=nll_N.dtype, device=nll_N.device).index_add(0, chats_N, -nll_N)

        with torch.no_grad(), self._without_adapter():
            reference_B = log_probabilities()
        gained_P2 = (log_probabilities() - reference_B).view(-1, 2)
        margin_P = self._beta * (gained_P2[:, 0] - gained_P2[:, 1])
        counts_P = torch.bincount(chats_N, minlength=chats).view(-1, 2)[:, 0] > 0
        if not self.training:
            self.wins += int(((margin_P > 0) & counts_P).sum())
        return -(F.logsigmoid(margin_P) * counts_P).sum()

    def counted(self, labels: torch.Tensor, lengths: Sequence[int] | None = None, **_: Any) -> torch.Tensor:
        """Return what the loss of a batch is a sum over, an int64 scalar: the pairs."""
        chats_N, chats = _chats(labels, lengths)
        return (torch.bincount(chats_N, minlength=chats).view(-1, 2)[:, 0] > 0).sum()

    def _without_adapter(self) -> AbstractContextManager[None]:
        found: AbstractContextManager[None] = getattr(self.model, "disable_adapter", nullcontext)()
        return found


def _chats(labels: torch.Tensor, lengths: Sequence[int] | None) -> tuple[torch.Tensor, int]:
    """Return (int64 [N], the chat of each trained position; number of chats)."""
    counted_BT = labels[:, 1:] != IGNORED_LABEL
    if lengths is None:
        numbers = torch.arange(len(labels), device=labels.device)
        return numbers[:, None].expand_as(counted_BT)[counted_BT], len(labels)
    numbers = torch.arange(len(lengths), device=labels.device)
    of_tokens = numbers.repeat_interleave(torch.tensor(lengths, device=labels.device))
    return of_tokens[None, 1:][counted_BT], len(lengths)
