"""DataConfig: which chats become a dataset, and what becomes of each kind of finding."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from llama_platform.config import Config
from llama_platform.data.checks.policies import Policies, QualityFilters
from llama_platform.data.reading.records import ChatBreak


class DataConfig(Config):
    """Which chats become the dataset, how they are checked, and what of them is trained."""

    name: str = "chats"
    """Name of the dataset artifact."""
    sources: tuple[str, ...] = ()
    """Files, folders, and `s3://` objects or prefixes."""
    exclude: tuple[str, ...] = ()
    """Patterns of paths within folders and prefixes that are left out, such as `*/old/*` or `*.txt`."""
    format: Literal["auto", "preferences", "sharegpt", "messages", "alpaca", "pairs", "text"] = "auto"
    """`auto` judges each file by its first records."""
    chat_break: ChatBreak = "two_empty_lines"
    """What parts the chats of a tagged text file, besides lines of `---` and system turns: with `one_empty_line`, each
    empty line before a user's turn begins another chat."""
    max_tokens: Annotated[int, Field(ge=16)] = 512
    """Longest chat, special tokens included."""
    train_on: Literal["answers", "last_answer", "everything"] = "answers"
    """What counts in the loss; a turn with `train: false` or `weight: 0` never does."""
    policies: Policies = Policies()
    """What becomes of each kind of finding."""
    quality: QualityFilters = QualityFilters()
    """Bounds that chats must keep."""
    near_duplicate_threshold: Annotated[float, Field(ge=0.5, le=0.98)] = 0.85
    """Share of common word triples from which two chats are nearly the same."""
    phone_region: Annotated[str, Field(pattern="^[A-Z]{2}$")] = "US"
    """Country whose phone numbers are recognised without a country code."""
    max_chats: Annotated[int, Field(ge=2)] | None = None
    """Stop reading after this many usable chats; None reads everything."""
    eval_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of chats held out, chosen by a hash of their text."""
    split_by: Literal["chats", "answers"] = "chats"
    """`answers`: chats that share an answer, word for word, are on one side of the split."""
    seed: int = 0
    """Chooses another held-out share."""
    report_folder: Path | None = None
    """Where `report.json` and `report.html` are written also when the chats are refused; None for `reports/<name>`."""
    ray_above_mib: Annotated[float, Field(ge=0)] = 8
    """Sources of more MiB are examined in parallel by Ray Data; for less, starting it takes longer."""
