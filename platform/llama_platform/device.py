"""The device that a process computes on: the GPU that is its own, or the CPU.

Ray shows every process all GPUs of a machine, so whether torch finds one says nothing about whose it is.
"""

import os

import torch

from llama_platform.errors import InputError

CPU = torch.device("cpu")


def assigned_device() -> torch.device:
    """Return the first GPU that Ray has assigned to this task or actor; the CPU where it has assigned none.

    Outside Ray's workers it is the CPU.
    """
    import ray  # jobs set its token before it is first imported

    if not ray.is_initialized() or not (assigned := ray.get_gpu_ids()):
        return CPU
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    own = str(assigned[0])
    return torch.device("cuda", visible.index(own) if own in visible else int(own))


def assigned_gpus() -> int:
    """Return how many GPUs Ray has assigned to this task or actor, a shared one counted as one."""
    import ray

    return len(ray.get_gpu_ids()) if ray.is_initialized() else 0


def configured_device(use_gpu: bool) -> torch.device:
    """Return the device of a command that computes in its own process.

    Args:
        use_gpu: what `training.use_gpu` says.

    Raises:
        InputError: it asks for a GPU and this machine has none.
    """
    if not use_gpu:
        return CPU
    if not torch.cuda.is_available():
        raise InputError("training.use_gpu: this machine has no GPU; --set training.use_gpu=false computes on its CPU")
    return torch.device("cuda", torch.cuda.current_device())
