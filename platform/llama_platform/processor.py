"""The processor of this machine: its name, its instruction sets, and how fast it multiplies."""

import math
import os
import platform
import time
from pathlib import Path

import torch


def cpu_name() -> str:
    """Return the processor's name as Linux knows it."""
    for line in _cpu_lines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def instructions() -> list[str]:
    """Return which of the instruction sets that decide about speed this processor has."""
    known = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")
    flags = next((line for line in _cpu_lines() if line.startswith("flags")), "").split()
    return [name for name in known if name in flags]


def matmul_gflops(size: int = 2048, tries: int = 40) -> float:
    """Return the best rate of torch's matrix product of size³ with its threads, in bfloat16 or float32.

    Args:
        size: rows and columns of both matrices.
        tries: how often each is computed; the shortest time counts.
    """
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = math.inf
    for dtype in (torch.bfloat16, torch.float32):
        x, y = a.to(dtype), b.to(dtype)
        for _ in range(tries):
            start = time.perf_counter()
            torch.nn.functional.linear(x, y)
            taken = time.perf_counter() - start
            best = min(best, taken)
            if taken > 5 * best:  # without instructions for bfloat16 one product takes seconds
                break
    return 2 * size**3 / best / 1e9


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
