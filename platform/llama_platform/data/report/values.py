"""DatasetReport: what was read, left out and kept; `report.json` is its JSON form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from llama_platform.data.checks.findings import FindingCounts

Side = Literal["train", "eval"]


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """A file that was read."""

    file: str
    """Name as configured, or below a configured folder."""
    sha256: str
    records: Mapping[str, int]
    """Records by their format: `sharegpt`, `messages`, …"""


@dataclass(frozen=True, slots=True)
class ChatCounts:
    """Chats, by what became of them."""

    read: int
    """Records that were read."""
    kept: int
    """Chats of the dataset, on both sides."""
    train: int
    eval: int
    not_read_after: int | None = None
    """The bound `data.max_chats` if it was reached; what followed in the sources was not read."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of one side of the split."""

    all: int
    trained: int
    """Tokens that count in the loss."""
    longest: int
    """Tokens of the longest chat."""


@dataclass(frozen=True, slots=True)
class PromptIdentity:
    """The prompt that the tokens were counted with."""

    style: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """Counts and findings of a prepared dataset."""

    name: str
    sources: tuple[SourceCounts, ...]
    chats: ChatCounts
    tokens: Mapping[Side, TokenCounts]
    held_out_answers_known: float
    """Share of the held-out answers that stand word for word in chats that are trained on."""
    findings: Mapping[str, FindingCounts]
    """By kind of finding."""
    prompt: PromptIdentity
    train_on: str
    """What counts in the loss: `answers`, `last_answer` or `everything`."""
    preferences: bool = False
    """Whether each chat has a worse answer beside its own; tokens are those of both."""

    def as_json(self) -> dict[str, Any]:
        """Return JSON values; a bound on chats and preferences only where there are any."""
        values: dict[str, Any] = TypeAdapter(DatasetReport).dump_python(self, mode="json", exclude_none=True)
        if not self.preferences:
            del values["preferences"]
        return values
