"""DeepSpeed's configuration, from ours; a pure function."""

from typing import Any

from llama_platform.training.config import TrainingConfig


def deepspeed_config(training: TrainingConfig, accumulation_steps: int, trained: int) -> dict[str, Any]:
    """Return DeepSpeed's configuration for one worker.

    The learning rate is 0 here: the loop sets it before every step.

    Args:
        training: the run's configuration.
        accumulation_steps: micro-batches per step on this worker, for the present number of workers.
        trained: number of trained values; buffers of gradients have room for these, where DeepSpeed's usual size of
            500 million values would take gigabytes beside a base.
    """
    zero: dict[str, Any] = {
        "stage": training.zero_stage,
        "contiguous_gradients": training.use_gpu,
        "reduce_bucket_size": trained,
        "allgather_bucket_size": trained,
    }
    if training.zero_stage >= 2:
        zero["overlap_comm"] = training.use_gpu
    if training.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": training.use_gpu}
    if training.offload == "optimizer_and_base":
        zero["offload_param"] = {"device": "cpu", "pin_memory": training.use_gpu}
    return {
        "train_micro_batch_size_per_gpu": training.micro_batch_size,
        "gradient_accumulation_steps": accumulation_steps,
        "gradient_clipping": training.max_grad_norm,
        "zero_optimization": zero,
        "bf16": {"enabled": training.precision == "bfloat16"},
        "fp16": {"enabled": training.precision == "float16"},
        "optimizer": {
            "type": "AdamW",
            # torch's own Adam needs no compiler, and LoRA has too few weights for a fused one to matter.
            "params": {"lr": 0.0, "weight_decay": training.weight_decay, "torch_adam": True},
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # offloaded, too, torch's Adam does
        "steps_per_print": 10**9,
    }
