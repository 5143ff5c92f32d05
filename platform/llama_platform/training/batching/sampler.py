"""Order: which chats make up which step, the same on any number of workers."""

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from llama_platform.data.packing import balanced_bins
from llama_platform.errors import ConfigError

Batching = Literal["packed", "grouped", "padded"]


def total_steps(num_chats: int, global_batch_size: int, epochs: float, max_steps: int | None) -> int:
    """Return the optimizer steps of a run, at least one; the last goes on into the next pass until it is full.

    Args:
        num_chats: chats of the training side.
        global_batch_size: chats per step of all workers together.
        epochs: passes over the chats.
        max_steps: bound on the steps; None for none.
    """
    steps = max(1, math.ceil(round(num_chats * epochs) / global_batch_size))
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


def step_chats(step: int, num_chats: int, global_batch_size: int, seed: int) -> list[int]:
    """Return the dataset indices of a step's chats, for all workers together.

    Chats come in one global permutation per epoch, without gaps between epochs.

    Args:
        step: from 0.
        num_chats: in the dataset.
        global_batch_size: chats per step.
        seed: seeds the permutations.
    """
    places = range(step * global_batch_size, (step + 1) * global_batch_size)
    return [int(_permutation(num_chats, seed, place // num_chats)[place % num_chats]) for place in places]


def micro_batches(
    chats: Sequence[int], lengths: Sequence[int], micro_batch_size: int, batching: Batching
) -> list[list[int]]:
    """Divide a step's chats into micro-batches; how many there are does not depend on the way.

    Args:
        chats: dataset indices; `micro_batch_size` divides their number.
        lengths: tokens of each of them.
        micro_batch_size: chats per micro-batch, on average where they are packed.
        batching: `packed` makes them equal in tokens, `grouped` puts like lengths together, `padded` keeps the order.
    """
    count = len(chats) // micro_batch_size
    if batching == "packed":
        return [[chats[place] for place in places] for places in balanced_bins(lengths, count)]
    ordered = list(chats)
    if batching == "grouped":
        ordered = [chats[place] for place in sorted(range(len(chats)), key=lambda place: lengths[place])]
    return [ordered[start : start + micro_batch_size] for start in range(0, len(chats), micro_batch_size)]


def dropout_seed(seed: int, step: int, micro_batch: int) -> int:
    """Return the seed of a micro-batch's dropout: no worker's own random state has to be kept."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}/{micro_batch}".encode()).digest()[:7])


@lru_cache(maxsize=4)
def _permutation(size: int, seed: int, epoch: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.random.default_rng([seed, epoch]).permutation(size)
