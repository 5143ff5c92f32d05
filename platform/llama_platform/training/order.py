"""Order: which chats make up which step, the same on any number of workers."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from llama_platform.errors import ConfigError


def total_steps(num_chats: int, global_batch_size: int, epochs: float, max_steps: int | None) -> int:
    """Return the optimizer steps of a run; at least one."""
    steps = max(1, round(num_chats * epochs / global_batch_size))
    return min(steps, max_steps) if max_steps else steps


def accumulation_for(global_batch_size: int, micro_batch_size: int, workers: int) -> int:
    """Return the micro-batches per worker and step.

    Raises:
        ConfigError: the global batch does not divide evenly.
    """
    if global_batch_size % (micro_batch_size * workers):
        raise ConfigError(
            f"a global batch of {global_batch_size} chats cannot be divided over {workers} workers with "
            f"training.micro_batch_size {micro_batch_size}: change either so that it divides evenly"
        )
    return global_batch_size // (micro_batch_size * workers)


def micro_batches(
    step: int, lengths: Sequence[int], global_batch_size: int, micro_batch_size: int, seed: int
) -> list[list[int]]:
    """Return the step's chats as micro-batches of dataset indices, for all workers together.

    Chats come in one global permutation per epoch, without gaps between epochs. Within a step they are sorted by
    length, so that a micro-batch holds little padding.

    Args:
        step: from 0.
        lengths: tokens of every chat.
        global_batch_size: chats per step.
        micro_batch_size: chats per micro-batch.
        seed: of the permutations.
    """
    size = len(lengths)
    places = range(step * global_batch_size, (step + 1) * global_batch_size)
    chosen = [int(_permutation(size, seed, place // size)[place % size]) for place in places]
    chosen.sort(key=lambda index: lengths[index])
    return [chosen[start : start + micro_batch_size] for start in range(0, global_batch_size, micro_batch_size)]


def dropout_seed(seed: int, step: int, micro_batch: int) -> int:
    """Return the seed of a micro-batch's dropout: no worker's own random state has to be kept."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}/{micro_batch}".encode()).digest()[:7])


@lru_cache(maxsize=4)
def _permutation(size: int, seed: int, epoch: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.random.default_rng([seed, epoch]).permutation(size)
