"""Step: the loss of a batch, and one optimizer step over the micro-batches of a worker. Runs without Ray.

Letters: B chats, T tokens, H hidden size, N trained positions.
"""

from collections.abc import Mapping
from typing import Any

import torch

from llama_platform.data.packing import Batch
from llama_platform.device import CPU
from llama_platform.errors import DivergedError
from llama_platform.training.batching.sampler import dropout_seed
from llama_platform.training.objectives.answer_loss import AnswerLoss
from llama_platform.training.objectives.packed_attention import use_packed_attention
from llama_platform.training.objectives.packed_dropout import use_packed_dropout
from llama_platform.training.objectives.preference_loss import PreferenceLoss


def prepare_for_training(
    model: Any, *, gradient_checkpointing: bool, packed: bool, device: torch.device = CPU, beta: float | None = None
) -> AnswerLoss:
    """Return the loss module of a LoRA model, in training mode.

    Args:
        model: a `LlamaForCausalLM` with LoRA.
        gradient_checkpointing: recompute activations in the backward pass.
        packed: whether its batches will be packed rows.
        device: what it will be trained on; it may not be there yet.
        beta: weight of the reference in direct preference optimization; None to train on answers.
    """
    if device.type == "cpu":
        use_packed_dropout(model)
    if packed:
        use_packed_attention(model.get_base_model())
    model.config.use_cache = False
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return (AnswerLoss(model) if beta is None else PreferenceLoss(model, beta)).train()


MAX_SCALES = 40
"""How often float16 may overflow in one step; the scale of the loss is halved each time, from 65,536."""


class TrainingStep:
    """Optimizer steps on one worker's share of the micro-batches."""

    def __init__(self, engine: Any, device: torch.device, seed: int) -> None:
        """Use a DeepSpeed engine around an AnswerLoss.

        Args:
            engine: it averages gradients over the workers and over as many passes as `run` is given batches.
            device: the engine's device.
            seed: seeds the dropout.
        """
        self._engine, self._device, self._seed = engine, device, seed
        self._norm = 0.0

    @property
    def grad_norm(self) -> float:
        """L2 norm of the gradients of the last step before clipping, over all workers."""
        found = self._engine.get_global_grad_norm()
        return self._norm if found is None else float(found)

    def run(
        self, step: int, batches: Mapping[int, Batch], count: int, trained_tokens: int, learning_rate: float
    ) -> torch.Tensor:
        """Do one optimizer step; return this worker's part of the summed loss, a float32 scalar.

        Args:
            step: from 0.
            batches: this worker's collated micro-batches by their number within the step.
            count: micro-batches of the step on all workers.
            trained_tokens: tokens, or pairs, in the loss of this step on all workers; the loss is the mean over them.
            learning_rate: learning rate of this step.

        Where float16 gradients overflow, DeepSpeed leaves the weights alone and lowers the scale of the loss: the step
        is then done again, so that every step that counts has been made.

        Raises:
            DivergedError: gradients overflow at every scale, or in a wider type are infinite or not a number.
        """
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        in_float16 = self._engine.fp16_enabled()
        for _ in range(MAX_SCALES if in_float16 else 1):
            total = self._pass(step, batches, count, trained_tokens)
            if self._engine.was_step_applied():
                return total
        if in_float16:
            raise DivergedError(f"step {step + 1}: float16 gradients overflow at every loss scale; train in bfloat16")
        raise DivergedError(
            f"step {step + 1}: gradients are infinite or not a number; lower training.learning_rate, or check the base"
        )

    def _pass(self, step: int, batches: Mapping[int, Batch], count: int, trained_tokens: int) -> torch.Tensor:
        total = torch.zeros((), device=self._device)
        for number, batch in batches.items():
            torch.manual_seed(dropout_seed(self._seed, step, number))
            nll = self._engine(**to_device(batch, self._device))
            self._engine.backward(nll * (count / max(trained_tokens, 1)))
            if self._engine.zero_optimization_stage() == 0 and self._engine.is_gradient_accumulation_boundary():
                # Stage 0 keeps no norm itself, and the step below clears the gradients.
                gradients = [p.grad for p in self._engine.module.parameters() if p.grad is not None]
                self._norm = float(torch.nn.utils.get_total_norm(gradients))
            self._engine.step()
            total += nll.detach().float()
        return total


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return a collated batch with its tensors on a device."""
    return {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
