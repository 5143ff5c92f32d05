"""What this machine can do at best: the limits that shares are measured against."""

import math
import time


def gemm_gflops(size: int = 2048) -> float:
    """Return the best rate of a bfloat16 matrix product of size³, with torch's threads."""
    import torch

    a, b = torch.randn(size, size).bfloat16(), torch.randn(size, size).bfloat16()
    best = math.inf
    for _ in range(40):
        start = time.perf_counter()
        torch.nn.functional.linear(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9
