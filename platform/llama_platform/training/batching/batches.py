"""Batches: the collated micro-batches of a step, and those of the held-out chats. Runs without Ray."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llama_platform.data.packing import Batch, balanced_bins, pack
from llama_platform.data.tokenize import TokenizedPair, TokenizedRow, collate
from llama_platform.training.batching.sampler import Batching, micro_batches, step_chats


@dataclass(frozen=True, slots=True)
class StepBatches:
    """One worker's part of a step."""

    batches: dict[int, Batch]
    """Collated micro-batches by their number within the step."""
    count: int
    """Micro-batches of the step on all workers."""
    tokens: int
    """On all workers, padding not counted."""
    trained_tokens: int
    """On all workers."""


class TrainingData:
    """Tokenized chats and the way they are batched."""

    def __init__(self, rows: Any, pad_token_id: int, micro_batch_size: int, batching: Batching, seed: int) -> None:
        """Read the lengths; the tokens stay on disk.

        Args:
            rows: a `datasets.Dataset` by `load_tokenized`.
            pad_token_id: fills padded batches.
            micro_batch_size: chats per micro-batch.
            batching: see `micro_batches`.
            seed: seeds the order of chats.
        """
        self._rows, self._pad = rows, pad_token_id
        self._micro, self._batching, self._seed = micro_batch_size, batching, seed
        self._lengths = np.asarray(rows.with_format("numpy")["length"][:])
        self._trained = np.asarray(rows.with_format("numpy")["num_trained"][:])

    def __len__(self) -> int:
        return len(self._lengths)

    def step(self, step: int, global_batch_size: int, rank: int, world: int) -> StepBatches:
        """Return what worker `rank` of `world` computes in a step (from 0): every `world`-th micro-batch.

        Args:
            step: number of the optimizer step, from 0.
            global_batch_size: chats per step of all workers together.
            rank: number of this worker, from 0.
            world: number of workers.
        """
        chats = step_chats(step, len(self), global_batch_size, self._seed)
        plan = micro_batches(chats, self._lengths[chats].tolist(), self._micro, self._batching)
        batches = {
            number: collate_rows([self._rows[chat] for chat in plan[number]], self._pad, self._batching == "packed")
            for number in range(rank, len(plan), world)
        }
        return StepBatches(batches, len(plan), int(self._lengths[chats].sum()), int(self._trained[chats].sum()))


def collate_rows(rows: Sequence[TokenizedRow], pad_token_id: int, packed: bool) -> Batch:
    """Return chats as one packed row, or as padded rows; the two of a pair stand behind one another."""
    chats = [chat for row in rows for chat in _chats_of(row)]
    return pack(chats) if packed else collate(chats, pad_token_id)


def _chats_of(row: TokenizedRow | TokenizedPair) -> list[TokenizedRow]:
    rejected: Any = row
    chats = [TokenizedRow(input_ids=row["input_ids"], trained=row["trained"])]
    if "rejected_input_ids" in row:
        chats.append(TokenizedRow(input_ids=rejected["rejected_input_ids"], trained=rejected["rejected_trained"]))
    return chats


def _length(row: TokenizedRow) -> int:
    return sum(len(chat["input_ids"]) for chat in _chats_of(row))


def eval_batches(rows: Sequence[TokenizedRow], batch_size: int, pad_token_id: int, packed: bool) -> Iterator[Batch]:
    """Yield collated batches of held-out chats, about `batch_size` in each.

    Args:
        rows: tokenized chats.
        batch_size: chats per batch; with packing, the average.
        pad_token_id: fills shorter rows.
        packed: whether chats share one row instead of being padded.
    """
    if packed:
        bins = balanced_bins([_length(row) for row in rows], -(-len(rows) // batch_size))
        yield from (collate_rows([rows[index] for index in chosen], pad_token_id, packed) for chosen in bins)
        return
    ordered = sorted(rows, key=_length)
    for start in range(0, len(ordered), batch_size):
        yield collate_rows(ordered[start : start + batch_size], pad_token_id, packed)
