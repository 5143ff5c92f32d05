"""ZeRO state: gathering the trained weights and optimizer moments from all workers, and putting them back.

Every function is collective: all workers must call it.
"""

from typing import Any

import torch

from llama_platform.errors import TrainingError
from llama_platform.models.adapter import trainable_parameters

Tensors = dict[str, torch.Tensor]
MOMENTS = ("exp_avg", "exp_avg_sq")
"""Names of Adam's two moments in the optimizer's state."""


def gather_weights(engine: Any, model: Any) -> Tensors:
    """Return the trained weights, float32 on the CPU, on every worker."""
    from deepspeed.utils import safe_get_full_fp32_param

    whole = _unsharded(engine)
    return {
        name: _copied(whole[id(p)][0] if whole else safe_get_full_fp32_param(p), name)
        for name, p in trainable_parameters(model).items()
    }


def gather_moments(engine: Any, model: Any) -> dict[str, Tensors]:
    """Return Adam's moments by parameter name, float32 on the CPU, on every worker."""
    from deepspeed.utils import safe_get_full_optimizer_state

    whole, parameters = _unsharded(engine), trainable_parameters(model)
    return {
        moment: {
            name: _copied(whole[id(p)][1][moment] if whole else safe_get_full_optimizer_state(p, moment), name)
            for name, p in parameters.items()
        }
        for moment in MOMENTS
    }


def load_weights(model: Any, weights: Tensors) -> None:
    """Put trained weights into a model before an engine is made of it.

    Args:
        model: a model with LoRA, of any dtype.
        weights: float32 by parameter name, of the shapes of its trained parameters.

    Raises:
        TrainingError: the checkpoint is of another model or other LoRA settings.
    """
    parameters = trainable_parameters(model)
    if {name: p.shape for name, p in parameters.items()} != {name: w.shape for name, w in weights.items()}:
        raise TrainingError("the checkpoint does not fit: base or LoRA settings have changed; use another run_id")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def restore(engine: Any, model: Any, weights: Tensors, moments: dict[str, Tensors], step: int) -> None:
    """Put float32 weights, moments and Adam's step count into an engine whose model `load_weights` has filled.

    Args:
        engine: DeepSpeed engine in which no step has been made.
        model: the engine's model.
        weights: float32 on the CPU, by parameter name.
        moments: Adam's moments by MOMENTS and parameter name, float32 on the CPU.
        step: optimizer steps that Adam has made.
    """
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    _make_optimizer_state(engine)
    whole = _unsharded(engine)
    for name, parameter in trainable_parameters(model).items():
        # The engine's float32 copy was made of the model's weights, which may be in 16 bits.
        values = {moment: moments[moment][name] for moment in MOMENTS}
        if whole:
            master, state = whole[id(parameter)]
            master.data.copy_(weights[name])
            for moment, value in values.items():
                state[moment].copy_(value)
        else:
            safe_set_full_fp32_param(parameter, weights[name])
            for moment, value in values.items():
                safe_set_full_optimizer_state(parameter, value, moment)
    for state in _adam(engine).state.values():
        state["step"] = torch.as_tensor(float(step))


def loss_scale(engine: Any) -> float | None:
    """Return what float16 losses are multiplied with by now; None in wider types, which need no scale."""
    return float(engine.optimizer.loss_scale) if engine.fp16_enabled() else None


def set_loss_scale(engine: Any, scale: float | None) -> None:
    """Go on with the loss scale of a checkpoint; None leaves the engine's own."""
    if scale is not None and engine.fp16_enabled():
        engine.optimizer.loss_scale = scale


def reset_steps(engine: Any) -> None:
    """Set Adam's step count of an engine to 0, in which no step has been made.

    In 16 bits, DeepSpeed's stage 0 makes the optimizer's state by a step with gradients of zero, and Adam counts it:
    its first updates would be a quarter too small.
    """
    for state in _adam(engine).state.values():
        if "step" in state:
            state["step"] = torch.zeros_like(torch.as_tensor(state["step"]))


def _adam(engine: Any) -> Any:
    """Return torch's optimizer, from inside DeepSpeed's if there is one around it."""
    return getattr(engine.optimizer, "optimizer", engine.optimizer)


def _unsharded(engine: Any) -> dict[int, tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Return, by id of the parameter, its float32 master and Adam's state; empty where ZeRO shards them.

    At stage 0 DeepSpeed's own getters return None and its setters do nothing.
    """
    if engine.zero_optimization_stage() > 0:
        return {}
    optimizer, adam = engine.optimizer, _adam(engine)
    if optimizer is adam:
        pairs = [(p, p) for group in adam.param_groups for p in group["params"]]
    else:
        held = zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True)
        pairs = [pair for halves, masters in held for pair in zip(halves, masters, strict=True)]
    return {id(parameter): (master, adam.state[master]) for parameter, master in pairs}


def _make_optimizer_state(engine: Any) -> None:
    # torch's Adam has no state before its first step, so one is made that changes nothing: lr and gradients are 0.
    device = next(engine.module.parameters()).device
    batch = torch.ones((1, 4), dtype=torch.long, device=device)
    for _ in range(engine.gradient_accumulation_steps()):
        # Two chats, which is a pair, too.
        engine.backward(engine(input_ids=batch, labels=batch, lengths=(2, 2)) * 0.0)
        engine.step()


def _copied(tensor: torch.Tensor | None, name: str) -> torch.Tensor:
    if tensor is None:
        raise TrainingError(f"DeepSpeed holds no full state for {name}")
    return tensor.detach().float().cpu().clone().contiguous()
