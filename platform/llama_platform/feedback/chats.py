"""Chats out of feedback: what an adapter can learn from opinions, as records that datasets are made of."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llama_platform.feedback.book import Conversation, Entry, TimedOpinion

Kind = Literal["corrections", "approved", "preferences"]


@dataclass(frozen=True, slots=True)
class Collected:
    """Records of one kind, and which versions gave the answers that they come from."""

    records: Sequence[Mapping[str, Any]]
    answered_by: Mapping[str, int]
    """Number of records by adapter and version, such as `assistant@3` or `base`."""


def collect(entries: Iterable[Entry], kind: Kind) -> Collected:
    """Return what entries have of one kind; of several opinions the last one counts.

    Args:
        entries: conversations with opinions.
        kind: `corrections` are chats that end with what the answer should have been, `approved` those with an answer
            that was liked and not corrected, `preferences` have both a better and a worse answer.
    """
    entries = list(entries)
    known = {(entry.conversation.tenant, entry.conversation.request): entry.conversation for entry in entries}
    records: list[Mapping[str, Any]] = []
    answered: Counter[str] = Counter()
    for entry in entries:
        found = list(_records(entry, kind, known))
        records += found
        answered[_version(entry.conversation)] += len(found)
    return Collected(records, {name: count for name, count in sorted(answered.items()) if count})


def _records(entry: Entry, kind: Kind, known: Mapping[tuple[str, str], Conversation]) -> Iterable[Mapping[str, Any]]:
    asked, opinions = entry.conversation, entry.opinions
    turns = [turn.model_dump() for turn in asked.messages]
    correction, rating = _last(opinions, "correction"), _last(opinions, "rating")
    if kind == "corrections" and correction is not None:
        yield {"messages": [*turns, _answer(correction)], "id": asked.request}
    if kind == "approved" and rating == "up" and correction is None:
        yield {"messages": [*turns, _answer(asked.answer)], "id": asked.request}
    if kind != "preferences":
        return
    if correction is not None and correction.strip() != asked.answer.strip():
        yield _preference(turns, correction, asked)
    for worse in dict.fromkeys(one.better_than for one in opinions if one.better_than):
        other = known.get((asked.tenant, worse))
        if other is None or other.messages != asked.messages:
            continue
        if other.answer.strip() != asked.answer.strip():
            yield _preference(turns, asked.answer, other)


def _preference(turns: list[dict[str, Any]], better: str, worse: Conversation) -> Mapping[str, Any]:
    return {"prompt": turns, "chosen": [_answer(better)], "rejected": [_answer(worse.answer)], "id": worse.request}


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _last(opinions: Sequence[TimedOpinion], field: str) -> str | None:
    return next((value for one in reversed(opinions) if (value := getattr(one, field)) is not None), None)


def _version(conversation: Conversation) -> str:
    return f"{conversation.adapter}@{conversation.version}" if conversation.adapter else "base"
