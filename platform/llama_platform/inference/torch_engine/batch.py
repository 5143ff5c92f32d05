"""Batch: the tokens of one step, as chunks of sequences, and what a backend must know of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PAGE = 32
"""Tokens of a page of the KV cache."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence: a piece of its prompt, or the token that it generated last."""

    token_ids: Sequence[int]
    position: int
    """Of the first of them; everything before is in the KV cache."""
    pages: Sequence[int]
    """Pages of the sequence, from its beginning, at least to the end of this chunk."""
    adapter: int = -1
    """Place of the adapter in the bank; -1 for none."""
    logits: int = 1
    """After how many of its last tokens logits are wanted."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one step; rows of one chunk, and rows of one adapter, lie beside each other."""

    chunks: tuple[Chunk, ...]
    order: tuple[int, ...]
    """Where each of `chunks` stood in what was given to `arrange`."""
    token_ids: np.ndarray
    """int64 [rows]"""
    positions: np.ndarray
    """int64 [rows]"""
    slots: np.ndarray
    """int64 [rows]: page · PAGE + place in it."""
    sampled_rows: np.ndarray
    """int64 [wanted logits], in the order of `chunks`."""
    groups: tuple[tuple[int, int, int], ...]
    """(first row, rows, adapter) for each adapter that some rows use."""
    begun_pages: np.ndarray
    """int64 [pages]: pages whose first place this step fills and whose last it does not. What an earlier user left
    behind must go before: attention multiplies it by zero, which makes NaN of infinity."""

    @property
    def rows(self) -> int:
        """Return how many tokens the step computes."""
        return len(self.token_ids)


def arrange(chunks: Sequence[Chunk]) -> Batch:
    """Return the batch of `chunks`, sorted by adapter."""
    order = sorted(range(len(chunks)), key=lambda place: chunks[place].adapter)
    ordered = tuple(chunks[place] for place in order)
    rows = sum(len(chunk.token_ids) for chunk in ordered)
    token_ids, positions, slots = (np.empty(rows, dtype=np.int64) for _ in range(3))
    sampled: list[int] = []
    begun = [page for chunk in ordered if (page := _begun_page(chunk)) is not None]
    groups: list[tuple[int, int, int]] = []
    row = 0
    for chunk in ordered:
        end = row + len(chunk.token_ids)
        token_ids[row:end] = chunk.token_ids
        places = np.arange(chunk.position, chunk.position + end - row, dtype=np.int64)
        positions[row:end] = places
        slots[row:end] = np.asarray(chunk.pages, dtype=np.int64)[places // PAGE] * PAGE + places % PAGE
        sampled += range(end - chunk.logits, end)
        if chunk.adapter >= 0:
            if groups and groups[-1][2] == chunk.adapter:
                groups[-1] = (groups[-1][0], end - groups[-1][0], chunk.adapter)
            else:
                groups.append((row, end - row, chunk.adapter))
        row = end
    sampled_rows = np.asarray(sampled, dtype=np.int64)
    begun_pages = np.asarray(begun, dtype=np.int64)
    return Batch(ordered, tuple(order), token_ids, positions, slots, sampled_rows, tuple(groups), begun_pages)


def _begun_page(chunk: Chunk) -> int | None:
    end = chunk.position + len(chunk.token_ids)
    last = end // PAGE
    return chunk.pages[last] if end % PAGE and chunk.position <= last * PAGE else None
