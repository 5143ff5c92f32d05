"""DeepSpeed engines around a loss module, on any machine that has torch.distributed running; no Ray here."""

import os
from typing import Any

import torch
import torch.distributed as dist

from llama_platform.device import CPU
from llama_platform.training.config import TrainingConfig
from llama_platform.training.zero.config import deepspeed_config
from llama_platform.training.zero.state import reset_steps


def init_deepspeed(threads: int, device: torch.device = CPU) -> None:
    """Prepare this worker's process; torch.distributed is initialised.

    Args:
        threads: number of threads that torch computes with on the CPU.
        device: what this worker trains on; DeepSpeed would look for one itself.
    """
    torch.set_num_threads(threads)
    os.environ |= {
        "OMP_NUM_THREADS": str(threads),
        "LOCAL_SIZE": os.environ.get("LOCAL_WORLD_SIZE", "1"),
        "DS_ACCELERATOR": device.type,
    }
    import deepspeed
    import deepspeed.ops

    if device.type == "cpu":
        # On CPUs DeepSpeed would compile an all-reduce that only its inference uses: a minute, and a compiler.
        vars(deepspeed.ops)["__compatible_ops__"] = {}
    deepspeed.init_distributed(dist_backend=dist.get_backend(), dist_init_required=False)


def start_engine(module: torch.nn.Module, training: TrainingConfig, accumulation_steps: int) -> Any:
    """Return a DeepSpeed engine that trains the parameters of `module` that want gradients.

    Args:
        module: an AnswerLoss in training mode.
        training: the run's configuration.
        accumulation_steps: micro-batches per step on this worker.
    """
    import deepspeed

    trained = [p for p in module.parameters() if p.requires_grad]
    engine, *_ = deepspeed.initialize(
        model=module,
        model_parameters=trained,
        config=deepspeed_config(training, accumulation_steps, sum(p.numel() for p in trained)),
        dist_init_required=False,
    )
    reset_steps(engine)
    return engine
