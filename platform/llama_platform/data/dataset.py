"""Datasets in the store: finding one, and a chat of it."""

from pathlib import Path

import pyarrow.parquet as pq

from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.errors import InputError, NotFoundError
from llama_platform.models.prompt import Message


def find_dataset(repository: ArtifactRepository, name: str, number: int | None) -> ArtifactVersion:
    """Return a version of a dataset, None for the newest.

    Raises:
        NotFoundError: it was never prepared.
    """
    try:
        return repository.version("dataset", name, number) if number else repository.latest("dataset", name)
    except NotFoundError as error:
        raise NotFoundError(f"{error}; run jobs.prepare_data first, with the same data.name and store") from error


def find_chat(folder: Path, which: str) -> tuple[str, list[Message]]:
    """Return (source, messages) of a chat of a dataset's folder.

    Args:
        folder: folder of a fetched dataset.
        which: its number in `train.parquet`, from 0, or its source, such as `chats.jsonl:17`.

    Raises:
        InputError: there is none.
    """
    wanted = int(which) if which.isascii() and which.isdigit() else None
    for name in ("train.parquet", "eval.parquet"):
        start = 0
        for batch in pq.ParquetFile(folder / name).iter_batches(columns=["messages", "source"]):
            for offset, source in enumerate(batch["source"].to_pylist()):
                if source.endswith(which) if wanted is None else name.startswith("train") and start + offset == wanted:
                    return source, [Message(**message) for message in batch["messages"][offset].as_py()]
            start += len(batch)
    raise InputError(f"no chat {which!r} in this dataset: give its number, or its file:line as in the report")
