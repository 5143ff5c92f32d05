"""What a machine is, and how fast it is."""

import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

from llama_platform.device import assigned_device

Figures = dict[str, Any]


def describe_machine() -> Figures:
    """Return the GPUs with their memory and drivers, and the rest of the machine."""
    gpus: list[str] = []
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=60)  # noqa: S603  # nothing of a user's
        gpus = done.stdout.strip().splitlines()
    return {
        "gpus": gpus,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "nccl": torch.cuda.nccl.version() if gpus else None,  # type: ignore[no-untyped-call]
        "python": platform.python_version(),
        "cores": psutil.cpu_count(logical=False),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def measure_rates(size: int) -> Figures:
    """Return the rate of a bfloat16 matrix product of size³ and of copying within the device's memory."""
    device = assigned_device()
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    flat = torch.empty(size * size * 8, dtype=torch.int32, device=device)
    other = torch.empty_like(flat)
    product, copy = shortest_s(lambda: a @ b, device), shortest_s(lambda: other.copy_(flat), device)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "tflops": round(2 * size**3 / product / 1e12, 3),
        "copy_gbytes_per_s": round(2 * flat.numel() * 4 / copy / 1e9, 1),
    }


def shortest_s(work: Callable[[], object], device: torch.device, times: int = 10) -> float:
    """Return the shortest time of some work."""
    found = []
    for _ in range(times + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - start)
    return min(found[1:])
