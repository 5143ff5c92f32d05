"""Tokenizing a dataset's chats, once per prompt fingerprint, and collating them into batches."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch

from llama_platform.data.split import evenly
from llama_platform.models.prompt import Message, PromptTemplate

LAYOUT = 2
"""Version of the cached columns; another number leaves earlier caches alone."""
IGNORED_LABEL = -100
"""Positions that do not count in the loss, as in torch's cross_entropy."""


class TokenizedRow(TypedDict):
    """One tokenized chat."""

    input_ids: list[int]
    trained: list[bool]
    """Whether each token counts in the loss."""


class TokenizedPair(TokenizedRow):
    """Two tokenized chats that differ in their last answer; the row's own is the one with the better answer."""

    rejected_input_ids: list[int]
    rejected_trained: list[bool]


def load_tokenized(file: Path, template: PromptTemplate, cache: Path, *, pairs: bool = False) -> Any:
    """Return a `datasets.Dataset` with `input_ids`, `trained`, `length` and `num_trained` for every chat of a file.

    With `pairs`, rows are TokenizedPair; `length` is of both chats, and `num_trained` 1: the loss is a mean over pairs.
    The result is memory-mapped, and cached by the file's content and the prompt fingerprint.

    Args:
        file: `train.parquet` or `eval.parquet` of a dataset artifact; it lies in a folder named by its digest.
        template: renders and tokenizes.
        cache: folder for the results, shared by the node.
        pairs: whether preferences are read; the file must have them.
    """
    import datasets

    datasets.disable_progress_bars()
    identity = f"{LAYOUT}/{file.parent.name}/{file.name}/{template.fingerprint()}{'/pairs' if pairs else ''}"
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()[:32]
    folder = cache / fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    chats = datasets.Dataset.from_parquet(str(file), cache_dir=str(folder))

    def tokenize(row: dict[str, Any]) -> dict[str, Any]:
        tokens = template.encode_chat([Message(**message) for message in row["messages"]])
        if pairs:
            *before, last = [Message(**message) for message in row["messages"]]
            other = template.encode_chat([*before, replace(last, content=row["rejected"])])
            return {
                "input_ids": tokens.input_ids,
                "trained": tokens.trained,
                "rejected_input_ids": other.input_ids,
                "rejected_trained": other.trained,
                "length": len(tokens.input_ids) + len(other.input_ids),
                "num_trained": 1,
            }
        sizes = {"length": len(tokens.input_ids), "num_trained": sum(tokens.trained[1:])}
        return {"input_ids": tokens.input_ids, "trained": tokens.trained, **sizes}

    return chats.map(
        tokenize,
        remove_columns=chats.column_names,
        cache_file_name=str(folder / "tokenized.arrow"),
        new_fingerprint=fingerprint,
    )


def sampled(rows: Any, bound: int) -> Any:
    """Return at most `bound` rows of a tokenized dataset, a sample of all its sources.

    Args:
        rows: what `load_tokenized` returned.
        bound: how many at most.
    """
    if len(rows) <= bound:
        return rows
    keys = [np.asarray(ids, dtype=np.int64).tobytes() for ids in rows["input_ids"]]
    return rows.select(evenly(keys, bound))


def collate(rows: Sequence[TokenizedRow], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Pad chats to the longest of them.

    Args:
        rows: each with `input_ids` and `trained`, lists of one length.
        pad_token_id: fills the end; it is neither attended to nor trained on.

    Returns:
        `input_ids`, `attention_mask` and `labels`, each int64 [len(rows), longest].
    """
    longest = max(len(row["input_ids"]) for row in rows)
    input_ids = torch.full((len(rows), longest), pad_token_id)
    labels = torch.full((len(rows), longest), IGNORED_LABEL)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids = torch.tensor(row["input_ids"])
        trained = torch.tensor(row["trained"])
        input_ids[index, : len(ids)] = ids
        labels[index, : len(ids)] = torch.where(trained, ids, IGNORED_LABEL)
        mask[index, : len(ids)] = 1
    return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}
