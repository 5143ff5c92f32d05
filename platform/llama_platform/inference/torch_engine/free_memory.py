"""Free memory of this machine or container, and whether a model fits into it, before any of its weights is read."""

from pathlib import Path

import psutil

from llama_platform.errors import InputError
from llama_platform.inference.torch_engine.architecture import Architecture

GIB = 2**30
CGROUP = Path("/sys/fs/cgroup")
PROCESS_BYTES = 300 * 2**20
"""Of a replica's process besides the model: torch, compiled kernels, buffers; a round figure."""
LOADING = 1.05
"""How much more than the weights loading takes for a moment: about the largest of them."""


def free_memory(cgroup: Path = CGROUP) -> int:
    """Return the bytes that this process may still take: of the machine, or of its container if that has fewer.

    Args:
        cgroup: where the kernel tells the container's limits, of version 2.
    """
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        told = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        if limit != "max":
            # Files that were read count as used, and give way.
            free = min(free, int(limit) - int(used) + int(told.get("inactive_file", 0)))
    except (OSError, ValueError):  # no container, or one of another kind
        return free
    return max(0, free)


def weight_bytes(shape: Architecture, bytes_each: int, *, int8: bool = False) -> int:
    """Return the bytes of a model's weights.

    Args:
        shape: sizes of the model.
        bytes_each: bytes of a weight that is not int8.
        int8: whether projections and output head are int8, with a scale for each row.
    """
    table = shape.vocab_size * shape.hidden
    products = [(rows, columns, shape.layers) for rows, columns in shape.projections.values()]
    products.append((shape.vocab_size, shape.hidden, 0 if shape.tied_embeddings and not int8 else 1))
    in_products = sum(rows * columns * times for rows, columns, times in products)
    scales = sum(rows * times for rows, _, times in products)
    return table * bytes_each + (in_products + 4 * scales if int8 else in_products * bytes_each)


def check_memory(shape: Architecture, bytes_each: int, *, int8: bool, adapters: int, kv_cache: int, free: int) -> None:
    """Check that a model fits, so that nobody waits for minutes to be told so by the kernel.

    Args:
        shape: sizes of the model.
        bytes_each: bytes of a weight that is not int8.
        int8: whether projections and head are int8.
        adapters: bytes that loaded adapters may take.
        kv_cache: bytes of keys and values.
        free: what `free_memory` returned.

    Raises:
        InputError: it does not, with what takes the memory and what would help.
    """
    weights = weight_bytes(shape, bytes_each, int8=int8)
    others = adapters + kv_cache + PROCESS_BYTES
    if weights * LOADING + others <= free:
        return
    advice = "use a smaller base, or a machine with more memory"
    smaller = weight_bytes(shape, bytes_each, int8=True)
    if not int8 and smaller * LOADING + others <= free:
        advice = f"engine.weights int8 takes {smaller / GIB:.1f} GiB for them, and fits"
    kind = "int8" if int8 else f"{8 * bytes_each} bits each"
    parts = {
        f"of weights ({kind})": weights,
        "for adapters (engine.adapter_memory_mib)": adapters,
        "of keys and values (engine.kv_cache_mib)": kv_cache,
        "for the process": PROCESS_BYTES,
    }
    told = ", ".join(f"{size / GIB:.1f} GiB {what}" for what, size in parts.items() if size >= GIB / 20)
    raise InputError(
        f"the base does not fit: {told} are more than the {free / GIB:.1f} GiB that are free here; {advice}"
    )
