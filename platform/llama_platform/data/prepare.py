"""Preparing a dataset: from chat files to checked, counted, split chats and a report of what became of each."""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from llama_platform.artifacts.manifest import file_sha256
from llama_platform.config import Config
from llama_platform.data.formats import (
    BrokenRecord,
    FormatName,
    detect_format,
    list_chat_files,
    parse_chat,
    read_records,
)
from llama_platform.errors import InputError
from llama_platform.models.prompt import Message, PromptTemplate, check_roles

REPORTED_PROBLEMS = 100
SHOWN_PROBLEMS = 10
SCHEMA = pa.schema(
    [
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("num_tokens", pa.int32()),
        ("num_trained_tokens", pa.int32()),
        ("source", pa.string()),
    ]
)


class DataConfig(Config):
    """Which chats become the dataset, and how strictly they are checked."""

    name: str = "chats"
    """Name of the dataset artifact."""
    sources: tuple[str, ...] = ()
    """Files and folders."""
    format: Literal["auto", "sharegpt", "messages", "alpaca", "pairs", "text"] = "auto"
    """`auto` judges each file by its first record."""
    max_tokens: Annotated[int, Field(ge=16)] = 512
    """Longest chat, special tokens included."""
    too_long: Literal["trim", "drop", "fail"] = "trim"
    """A chat over `max_tokens`: `trim` removes whole exchanges from its end, `drop` leaves it out."""
    on_invalid: Literal["fail", "drop"] = "fail"
    """A chat that is malformed: `fail` writes nothing and lists the places, `drop` leaves it out."""
    max_chats: Annotated[int, Field(ge=2)] | None = None
    """Stop reading after this many usable chats; None reads everything."""
    eval_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of chats held out, chosen by a hash of their text."""
    seed: int = 0
    """Chooses another held-out share."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A checked chat with its token counts."""

    messages: tuple[Message, ...]
    num_tokens: int
    num_trained_tokens: int
    source: str
    """`file:line`."""

    def key(self) -> str:
        """Return a text that is equal for equal chats."""
        return json.dumps([[m.role, m.content] for m in self.messages], ensure_ascii=False)


@dataclass(slots=True)
class Findings:
    """What was found while reading: counts by kind, and the first places of each kind."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[dict[str, str]] = field(default_factory=list)

    def add(self, kind: str, where: str, problem: str) -> None:
        """Count a finding; keep its place while there is room."""
        self.counts[kind] += 1
        if self.counts[kind] <= REPORTED_PROBLEMS:
            self.problems.append({"kind": kind, "where": where, "problem": problem})


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Both sides of the split, and the report."""

    train: list[Chat]
    evaluation: list[Chat]
    report: dict[str, Any]


def prepare(config: DataConfig, template: PromptTemplate) -> PreparedData:
    """Read, check, count and split the configured chats.

    Raises:
        InputError: a source cannot be read, chats are invalid and `on_invalid` is `fail`, or too few are left.
    """
    findings, seen = Findings(), set()
    files: list[dict[str, Any]] = []
    chats: list[Chat] = []
    bound = config.max_chats or sys.maxsize
    for path in list_chat_files(config.sources):
        forms: Counter[str] = Counter()
        for messages, where, form in _parsed(path, config.format, findings):
            if len(chats) == bound:
                findings.counts["not_read_after"] = bound
                break
            forms[form] += 1
            chat = _checked(messages, where, config, template, findings)
            if chat is not None and chat.key() in seen:
                findings.add("duplicate", where, "the same chat was read before")
            elif chat is not None:
                seen.add(chat.key())
                chats.append(chat)
        files.append({"file": str(path), "sha256": file_sha256(path), "records": dict(forms)})
    _refuse(config, findings)
    if len(chats) < 2:
        counts = ", ".join(f"{kind} {count}" for kind, count in findings.counts.items()) or "nothing left out"
        raise InputError(f"{len(chats)} usable chats ({counts}): at least two are needed, one of them to evaluate")
    train, evaluation = split(chats, config.eval_fraction, config.seed)
    report = {
        "sources": files,
        "chats": {"kept": len(chats), "train": len(train), "eval": len(evaluation), **findings.counts},
        "tokens": {"train": _tokens(train), "eval": _tokens(evaluation)},
        "prompt": {"style": template.style, "fingerprint": template.fingerprint()},
        "problems": findings.problems,
    }
    return PreparedData(train, evaluation, report)


def split(chats: Sequence[Chat], eval_fraction: float, seed: int) -> tuple[list[Chat], list[Chat]]:
    """Return (train, evaluation), each with a chat at least; a chat's side depends on its own text and the seed.

    Args:
        chats: at least two.
        eval_fraction: share of the hash's range that is held out.
        seed: chooses another share.
    """

    def place(chat: Chat) -> float:
        return int.from_bytes(hashlib.sha256(f"{seed}/{chat.key()}".encode()).digest()[:8]) / 2**64

    # Of very few chats the hash may choose none or all: then the lowest, or all but the highest, are held out.
    lowest, highest = min(chats, key=place), max(chats, key=place)
    held_out = [chat for chat in chats if (place(chat) < eval_fraction or chat is lowest) and chat is not highest]
    chosen = {id(chat) for chat in held_out}
    return [chat for chat in chats if id(chat) not in chosen], held_out


def write_dataset(data: PreparedData, folder: Path) -> None:
    """Write `train.parquet`, `eval.parquet` and `report.json`."""
    for name, chats in (("train", data.train), ("eval", data.evaluation)):
        rows = [
            {
                "messages": [{"role": m.role, "content": m.content} for m in chat.messages],
                "num_tokens": chat.num_tokens,
                "num_trained_tokens": chat.num_trained_tokens,
                "source": chat.source,
            }
            for chat in chats
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / f"{name}.parquet")
    text = json.dumps(data.report, indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")


def _parsed(path: Path, form: str, findings: Findings) -> Iterator[tuple[list[Message], str, FormatName]]:
    known: FormatName | None = None if form == "auto" else form  # type: ignore[assignment]
    for record in read_records(path):
        if isinstance(record, BrokenRecord):
            findings.add("invalid", record.where, record.problem)
            continue
        known = known or detect_format(record)
        try:
            yield parse_chat(record.value, known), record.where, known
        except InputError as error:
            findings.add("invalid", record.where, str(error))
    if known is None and not findings.problems:
        raise InputError(f"{path}: holds no chats")


def _checked(
    messages: list[Message], where: str, config: DataConfig, template: PromptTemplate, findings: Findings
) -> Chat | None:
    try:
        check_roles(messages)
        for number, message in enumerate(messages, 1):
            if not message.content.strip():
                raise InputError(f"turn {number}, by '{message.role}', is empty")
    except InputError as error:
        findings.add("invalid", where, str(error))
        return None
    if messages[-1].role == "user":
        findings.add("unanswered", where, "the last turn is the user's: left out")
        messages = messages[:-1]
    original = 0
    while any(message.role == "assistant" for message in messages):
        tokens = template.encode_chat(messages)
        size = len(tokens.input_ids)
        original = original or size
        if size <= config.max_tokens:
            if size < original:
                findings.add("trimmed", where, f"{original} tokens, over {config.max_tokens}: cut to {size}")
            return Chat(tuple(messages), size, sum(tokens.trained), where)
        if config.too_long != "trim":
            break
        messages = messages[:-2]
    if original:
        findings.add("too_long", where, f"{original} tokens, over the limit of {config.max_tokens}")
    return None


def _refuse(config: DataConfig, findings: Findings) -> None:
    refused = {"invalid"} if config.on_invalid == "fail" else set()
    refused |= {"too_long"} if config.too_long == "fail" else set()
    found = [p for p in findings.problems if p["kind"] in refused]
    if found:
        total = sum(findings.counts[kind] for kind in refused)
        lines = [f"{p['where']}: {p['problem']}" for p in found[:SHOWN_PROBLEMS]]
        more = f"\n… and {total - len(lines)} more" if total > len(lines) else ""
        advice = "correct them, or leave them out with --set data.on_invalid=drop"
        if all(p["kind"] == "too_long" for p in found):
            advice = "shorten them, or choose --set data.too_long=trim"
        raise InputError("\n".join(lines) + f"{more}\n{total} chats cannot be used: {advice}")


def _tokens(chats: Sequence[Chat]) -> dict[str, int]:
    return {
        "all": sum(chat.num_tokens for chat in chats),
        "trained": sum(chat.num_trained_tokens for chat in chats),
        "longest": max((chat.num_tokens for chat in chats), default=0),
    }
