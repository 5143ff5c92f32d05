"""Examining records: parsed, checked, repaired, cut to length and counted, each by itself.

Pure functions of values, so that they run in this process or on a cluster.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from typing import Any, Literal

from llama_platform.data.checks.doctor import CheckedChat, Finding, examine
from llama_platform.data.checks.near_duplicates import signature
from llama_platform.data.checks.policies import Action
from llama_platform.data.config import DataConfig
from llama_platform.data.reading.formats import (
    FormatName,
    detect_format,
    parse_chat,
    parse_preference,
    unread_content,
)
from llama_platform.data.reading.records import EMPTY_LINE, BrokenRecord, Record, read_records
from llama_platform.data.reading.sources import SourceFile
from llama_platform.errors import InputError
from llama_platform.models.prompt import Message, PromptTemplate

BATCH_RECORDS = 512
JUDGED_RECORDS = 10
"""A file is foreign if none of so many first records is of a known format."""


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record on its way to examination."""

    value: Any
    where: str
    form: FormatName | None
    """None of a file whose format is not known; it has one record, with a problem."""
    problem: str = ""
    """Why it could not be read; then there is no value."""
    kind: Literal["malformed", "unread_file"] = "malformed"
    """Kind of finding that the problem is."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What became of a record."""

    form: FormatName | None
    where: str
    findings: list[Finding]
    messages: list[Message] | None = None
    num_tokens: int = 0
    num_trained_tokens: int = 0
    signature: bytes = b""
    rejected: str | None = None
    """The worse answer to the same chat; None where there is none."""

    def key(self) -> bytes:
        """Return a digest that is equal for chats of equal text."""
        texts = [[m.role, m.content] for m in self.messages or []]
        if self.rejected is not None:
            texts.append(["rejected", self.rejected])
        return hashlib.sha256(json.dumps(texts, ensure_ascii=False).encode()).digest()


Examiner = Callable[[Iterable[list[RawRecord]]], Iterator[list[Examined]]]
"""Applies `examine_batch` to batches, here or on a cluster, and yields the results in order."""


def examine_batch(records: Sequence[RawRecord], config: DataConfig, template: PromptTemplate) -> list[Examined]:
    """Parse, check, repair and count records; pure, so that it may run anywhere."""
    return [_examine(record, config, template) for record in records]


def read_batches(files: Sequence[SourceFile], config: DataConfig) -> Iterator[list[RawRecord]]:
    """Yield the records of files in batches, each with the format of its file; what cannot be read has a problem."""
    records = (record for file in files for record in _raw_records(file, config))
    while batch := list(islice(records, BATCH_RECORDS)):
        yield batch


def _raw_records(file: SourceFile, config: DataConfig) -> Iterator[RawRecord]:
    """Yield a file's records; what is wrong with the file as a whole comes as one record with a problem."""
    form: FormatName | None = None if config.format == "auto" else config.format
    before: list[Record | BrokenRecord] = []
    first_problem = ""
    try:
        for record in read_records(file, config.chat_break):
            if form is None:
                before.append(record)
                form, problem = _form_of(record)
                first_problem = first_problem or problem
                if form is None and len(before) < JUDGED_RECORDS:
                    continue
                if form is None:
                    break
                yield from (_raw(one, form) for one in before)
            else:
                yield _raw(record, form)
        if form is None:
            raise InputError(first_problem or f"{file.name}: holds no chats")
    except InputError as error:
        where, problem = _place(file.name, str(error))
        # One foreign file in a folder is not the end of the job; a chat file that is damaged is its own affair.
        foreign = file.listed and (form is None or file.problem is not None)
        yield RawRecord(None, where, form, problem, "unread_file" if foreign else "malformed")


def _form_of(record: Record | BrokenRecord) -> tuple[FormatName | None, str]:
    if isinstance(record, BrokenRecord):
        return None, f"{record.where}: {record.problem}"
    try:
        return detect_format(record), ""
    except InputError as error:
        return None, str(error)


def _raw(record: Record | BrokenRecord, form: FormatName) -> RawRecord:
    if isinstance(record, BrokenRecord):
        return RawRecord(None, record.where, form, record.problem)
    return RawRecord(record.value, record.where, form)


def _place(name: str, text: str) -> tuple[str, str]:
    """Return (where, problem) of an error's text, which begins with the file's name and may go on with the line."""
    found = re.fullmatch(r"(:\d+)?: (.*)", text.removeprefix(name), re.DOTALL)
    return (f"{name}{found[1] or ':1'}", found[2]) if found else (f"{name}:1", text)


def _examine(record: RawRecord, config: DataConfig, template: PromptTemplate) -> Examined:
    chat = CheckedChat(None, record.where)
    if record.problem or record.form is None:
        chat.report(record.kind, getattr(config.policies, record.kind), record.problem)
        return Examined(record.form, record.where, chat.findings)
    rejected: str | None = None
    try:
        if record.form == "preferences":
            chat.messages, rejected = parse_preference(record.value)
        else:
            chat.messages = parse_chat(record.value, record.form)
    except InputError as error:
        chat.report("malformed", config.policies.malformed, str(error))
    for kind, problem in unread_content(record.value, record.form) if chat.messages else ():
        chat.report(kind, getattr(config.policies, kind), problem)
    if isinstance(record.value, str) and EMPTY_LINE.search(record.value) and config.chat_break == "two_empty_lines":
        problem = "exchanges with an empty line between them are one chat; data.chat_break=one_empty_line parts them"
        chat.report("empty_lines", config.policies.empty_lines, problem)
    if rejected is not None and chat.messages is not None:
        return _examine_pair(record, chat, rejected, config, template)
    examine(chat, config.policies, config.quality, config.phone_region)
    sizes = _fit(chat, config, template)
    if chat.messages is None:
        return Examined(record.form, record.where, chat.findings)
    return Examined(record.form, record.where, chat.findings, chat.messages, *sizes, signature(chat.messages))


def _examine_pair(
    record: RawRecord, chat: CheckedChat, rejected: str, config: DataConfig, template: PromptTemplate
) -> Examined:
    """Examine a chat with each of its answers; what is wrong with one takes both along, and nothing is cut."""
    assert chat.messages is not None
    config = config.model_copy(
        update={
            "train_on": "last_answer",
            "policies": config.policies.model_copy(update={"too_long": _drop_or(config.policies.too_long)}),
        }
    )
    other = CheckedChat([*chat.messages[:-1], replace(chat.messages[-1], content=rejected)], record.where)
    sizes = []
    for one in (chat, other):
        examine(one, config.policies, config.quality, config.phone_region)
        sizes.append(_fit(one, config, template))
    known = {(finding.kind, finding.problem) for finding in chat.findings}
    chat.findings += [found for found in other.findings if (found.kind, found.problem) not in known]
    if chat.messages is None or other.messages is None:
        return Examined(record.form, record.where, chat.findings)
    problem = ""
    if [m.content for m in chat.messages[:-1]] != [m.content for m in other.messages[:-1]]:
        problem = "repaired, 'chosen' and 'rejected' are answers to different chats"
    elif chat.messages[-1].content == other.messages[-1].content:
        problem = "'chosen' and 'rejected' are the same"
    if problem:
        chat.report("untrainable", config.policies.untrainable, problem)
        return Examined(record.form, record.where, chat.findings)
    total, trained = (sum(size[place] for size in sizes) for place in (0, 1))
    texts = [*chat.messages, other.messages[-1]]
    return Examined(
        record.form, record.where, chat.findings, chat.messages, total, trained, signature(texts),
        other.messages[-1].content,
    )  # fmt: skip


def _with_loss(messages: list[Message], train_on: str) -> Iterator[Message]:
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    for index, message in enumerate(messages):
        counts = {"answers": message.role == "assistant", "last_answer": index == last, "everything": True}[train_on]
        yield replace(message, trained=counts and message.trained is not False)


def _fit(chat: CheckedChat, config: DataConfig, template: PromptTemplate) -> tuple[int, int]:
    """Cut a chat to `max_tokens` if its policy says so, and return (tokens, trained tokens)."""
    policies = config.policies
    if chat.messages is None:
        return 0, 0
    if not any(message.role == "assistant" for message in chat.messages):
        chat.report("untrainable", policies.untrainable, "there is no answer in it")
        return 0, 0
    chat.messages = list(_with_loss(original := chat.messages, config.train_on))
    try:
        exchanges = template.encode_exchanges(chat.messages)
    except InputError as error:  # what a policy lets pass and no prompt can hold, such as half a character
        chat.report("malformed", policies.malformed, str(error))
        return 0, 0
    sizes = [len(exchange.input_ids) for exchange in exchanges]
    if sum(sizes) > config.max_tokens:
        kept = sum(size <= config.max_tokens for size in accumulate(sizes))
        problem = f"{sum(sizes)} tokens, over the limit of {config.max_tokens}"
        if policies.too_long != "fix" or not kept:
            chat.report("too_long", _drop_or(policies.too_long), problem)
            return 0, 0
        chat.report("too_long", "fix", f"{problem}: cut to {sum(sizes[:kept])}")
        left = original[: 2 * kept + (original[0].role == "system")]
        chat.messages = list(_with_loss(left, config.train_on))  # the last answer is another one now
        exchanges = template.encode_exchanges(chat.messages)
    flags = [flag for exchange in exchanges for flag in exchange.trained]
    trained = sum(flags[1:])
    if not trained:
        chat.report("untrainable", policies.untrainable, "no token of it counts in the loss")
    return len(flags), trained


def _drop_or(action: Action) -> Action:
    return "drop" if action == "fix" else action
