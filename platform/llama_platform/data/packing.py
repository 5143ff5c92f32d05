"""Packing: several chats in one row without padding, and without attention between them.

Rows are described by the lengths of their chats; `training.attention` keeps these apart, and positions start anew
with each (Krell et al., 2021, «Efficient sequence packing without cross-contamination»).
"""

import heapq
from collections.abc import Sequence
from typing import Any

import torch

from llama_platform.data.tokenize import IGNORED_LABEL, TokenizedRow

Batch = dict[str, Any]
"""Tensors of a training step: `input_ids` and `labels`, int64 [rows, columns], and `attention_mask` of padded rows or
`position_ids` and `lengths` of packed ones."""


def balanced_bins(lengths: Sequence[int], bins: int) -> list[list[int]]:
    """Return the numbers of the chats of each bin, so that the bins hold about equally many tokens.

    Longest first, each into the emptiest bin (Graham, 1969): no bin exceeds 4/3 of the best possible.

    Args:
        lengths: tokens of each chat; at least as many as there are bins.
        bins: how many.
    """
    assert len(lengths) >= bins
    filled: list[list[int]] = [[] for _ in range(bins)]
    heap = [(0, number) for number in range(bins)]
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        tokens, number = heapq.heappop(heap)
        filled[number].append(index)
        heapq.heappush(heap, (tokens + lengths[index], number))
    return filled


def pack(rows: Sequence[TokenizedRow]) -> Batch:
    """Put chats one after the other into one row.

    Args:
        rows: each with `input_ids` and `trained`, lists of one length.

    Returns:
        `input_ids`, `position_ids` and `labels`, int64 [1, sum of the lengths], and `lengths`, a tuple. The first
        label of each chat is ignored: it would be predicted from the chat before.
    """
    lengths = tuple(len(row["input_ids"]) for row in rows)
    input_ids = torch.tensor([token for row in rows for token in row["input_ids"]])
    trained = torch.tensor([t for row in rows for t in (False, *row["trained"][1:])])
    return {
        "input_ids": input_ids[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "labels": torch.where(trained, input_ids, IGNORED_LABEL)[None],
        "lengths": lengths,
    }
