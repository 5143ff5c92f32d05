"""Preparing a dataset: from chat files to checked, counted, split chats and a report of what became of each.

Memory does not grow with the texts: chats go through a scratch file, and what stays of each is a kilobyte or two.
"""

import hashlib
import json
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from llama_platform.artifacts.manifest import file_sha256
from llama_platform.config import Config
from llama_platform.data.doctor import Action, CheckedChat, Finding, Policies, QualityFilters, examine
from llama_platform.data.findings import FindingsLog
from llama_platform.data.formats import FormatName, detect_format, parse_chat
from llama_platform.data.near_duplicates import NearDuplicates, signature
from llama_platform.data.records import BrokenRecord, Record, SourceFile, open_sources, read_records
from llama_platform.data.split import leaked, place_of, split
from llama_platform.errors import InputError
from llama_platform.models.prompt import Message, PromptTemplate

BATCH_RECORDS = 512
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("trained", pa.bool_())])
SCHEMA = pa.schema(
    [
        ("messages", pa.list_(MESSAGE)),
        ("num_tokens", pa.int32()),
        ("num_trained_tokens", pa.int32()),
        ("source", pa.string()),
    ]
)


class DataConfig(Config):
    """Which chats become the dataset, how they are checked, and what of them is trained."""

    name: str = "chats"
    """Name of the dataset artifact."""
    sources: tuple[str, ...] = ()
    """Files, folders, and `s3://` objects or prefixes."""
    format: Literal["auto", "sharegpt", "messages", "alpaca", "pairs", "text"] = "auto"
    """`auto` judges each file by its first record."""
    max_tokens: Annotated[int, Field(ge=16)] = 512
    """Longest chat, special tokens included."""
    train_on: Literal["answers", "last_answer", "everything"] = "answers"
    """What counts in the loss; a turn with `train: false` or `weight: 0` never does."""
    policies: Policies = Policies()
    """What becomes of each kind of finding."""
    quality: QualityFilters = QualityFilters()
    """Bounds that chats must keep."""
    near_duplicate_threshold: Annotated[float, Field(ge=0.5, lt=1)] = 0.85
    """Share of common word triples from which two chats are nearly the same."""
    phone_region: Annotated[str, Field(pattern="^[A-Z]{2}$")] = "US"
    """Country whose phone numbers are recognised without a country code."""
    max_chats: Annotated[int, Field(ge=2)] | None = None
    """Stop reading after this many usable chats; None reads everything."""
    eval_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of chats held out, chosen by a hash of their text."""
    seed: int = 0
    """Chooses another held-out share."""
    report_folder: Path | None = None
    """Where `report.json` and `report.html` are written also when the chats are refused; None for `reports/<name>`."""
    ray_above_mib: Annotated[float, Field(ge=0)] = 8
    """Sources of more MiB are examined in parallel by Ray Data; for less, starting it takes longer."""


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record on its way to examination."""

    value: Any
    where: str
    form: FormatName
    problem: str = ""
    """Why it could not be read; then there is no value."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What became of a record."""

    form: FormatName
    where: str
    findings: list[Finding]
    messages: list[Message] | None = None
    num_tokens: int = 0
    num_trained_tokens: int = 0
    signature: bytes = b""

    def key(self) -> bytes:
        """Return a digest that is equal for chats of equal text."""
        texts = [[m.role, m.content] for m in self.messages or []]
        return hashlib.sha256(json.dumps(texts, ensure_ascii=False).encode()).digest()


Examiner = Callable[[Iterable[list[RawRecord]]], Iterator[list[Examined]]]
"""Applies `examine_batch` to batches, here or on a cluster, and yields the results in order."""


def examine_batch(records: Sequence[RawRecord], config: DataConfig, template: PromptTemplate) -> list[Examined]:
    """Parse, check, repair and count records; pure, so that it may run anywhere."""
    return [_examine(record, config, template) for record in records]


@dataclass(slots=True)
class _Kept:
    """What stays in memory of the chats that were kept."""

    places: "array[float]" = field(default_factory=lambda: array("d"))
    """Where in [0, 1) the split's hash puts them."""
    tokens: "array[int]" = field(default_factory=lambda: array("i"))
    trained: "array[int]" = field(default_factory=lambda: array("i"))
    turns: "array[int]" = field(default_factory=lambda: array("i"))
    wheres: list[str] = field(default_factory=list)
    near: list[tuple[int, int, float]] = field(default_factory=list)
    """(chat, earlier chat, similarity) of near duplicates."""


def prepare(
    config: DataConfig, template: PromptTemplate, folder: Path, examiner: Examiner | None = None
) -> dict[str, Any]:
    """Read, check, count and split the configured chats into `folder`; return the report.

    Writes `train.parquet`, `eval.parquet`, `report.json`, `report.html` and, with every finding, `findings.jsonl`.

    Args:
        config: sources, policies and bounds.
        template: of the base that will be trained.
        folder: empty, or not there yet.
        examiner: runs the examination; None for this process.

    Raises:
        InputError: a source cannot be read, a finding's policy is `fail`, or too few chats are left. The report
            is written even then.
    """
    from llama_platform.data.report import write_report

    folder.mkdir(parents=True, exist_ok=True)
    run = examiner or (lambda batches: (examine_batch(batch, config, template) for batch in batches))
    with (
        open_sources(config.sources) as files,
        TemporaryDirectory() as scratch,
        FindingsLog(folder / "findings.jsonl") as log,
    ):
        spool = Path(scratch, "kept.parquet")
        counts: dict[str, Counter[str]] = {file.name: Counter() for file in files}
        kept = _collect(run(_batches(files, config)), config, spool, log, counts)
        sides = _sides(kept, config, log)
        report: dict[str, Any] = {
            "name": config.name,
            "sources": [
                {"file": file.name, "sha256": file_sha256(file.path), "records": dict(counts[file.name])}
                for file in files
            ],
            "chats": {"read": sum(sum(c.values()) for c in counts.values()), **_count_sides(sides)},
            "tokens": {side: _tokens(kept, sides, side) for side in ("train", "eval")},
            "findings": log.summary(),
            "prompt": {"style": template.style, "fingerprint": template.fingerprint()},
            "train_on": config.train_on,
        }
        if config.max_chats and len(kept.tokens) >= config.max_chats:
            report["chats"]["not_read_after"] = config.max_chats
        _write_sides(spool, sides, folder)
        write_report(report, _distributions(kept, sides), folder, template, config.max_tokens)
        log.refuse()
        _refuse_too_few(report)
    return report


def _batches(files: Sequence[SourceFile], config: DataConfig) -> Iterator[list[RawRecord]]:
    records = (record for file in files for record in _raw_records(file, config.format))
    while batch := list(islice(records, BATCH_RECORDS)):
        yield batch


def _raw_records(file: SourceFile, chosen: str) -> Iterator[RawRecord]:
    form: FormatName | None = None if chosen == "auto" else chosen  # type: ignore[assignment]
    before: deque[BrokenRecord] = deque()
    for record in read_records(file):
        if isinstance(record, Record) and form is None:
            form = detect_format(record)
        if form is None:
            assert isinstance(record, BrokenRecord)
            before.append(record)
            continue
        while before:
            broken = before.popleft()
            yield RawRecord(None, broken.where, form, broken.problem)
        if isinstance(record, BrokenRecord):
            yield RawRecord(None, record.where, form, record.problem)
        else:
            yield RawRecord(record.value, record.where, form)
    if form is None:
        raise InputError(f"{before[0].where}: {before[0].problem}" if before else f"{file.name}: holds no chats")


def _examine(record: RawRecord, config: DataConfig, template: PromptTemplate) -> Examined:
    patient = CheckedChat(None, record.where)
    try:
        if record.problem:
            raise InputError(record.problem)
        patient.messages = parse_chat(record.value, record.form)
    except InputError as error:
        patient.report("malformed", config.policies.malformed, str(error))
    examine(patient, config.policies, config.quality, config.phone_region)
    if patient.messages is not None:
        patient.messages = [replace(m, trained=t) for m, t in _with_loss(patient.messages, config.train_on)]
    sizes = _fit(patient, config, template)
    if patient.messages is None:
        return Examined(record.form, record.where, patient.findings)
    return Examined(record.form, record.where, patient.findings, patient.messages, *sizes, signature(patient.messages))


def _with_loss(messages: list[Message], train_on: str) -> Iterator[tuple[Message, bool]]:
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    for index, message in enumerate(messages):
        counts = {"answers": message.role == "assistant", "last_answer": index == last, "everything": True}[train_on]
        yield message, counts and message.trained is not False


def _fit(patient: CheckedChat, config: DataConfig, template: PromptTemplate) -> tuple[int, int]:
    """Cut a chat to `max_tokens` if its policy says so, and return (tokens, trained tokens)."""
    policies, original = config.policies, 0
    while patient.messages is not None:
        if not any(message.role == "assistant" for message in patient.messages):
            if original:
                patient.report("too_long", _drop_or(policies.too_long), _too_long(original, config.max_tokens))
            else:
                patient.report("untrainable", policies.untrainable, "there is no answer in it")
            break
        tokens = template.encode_chat(patient.messages)
        size, trained = len(tokens.input_ids), sum(tokens.trained[1:])
        original = original or size
        if size <= config.max_tokens:
            if size < original:
                patient.report("too_long", "fix", f"{_too_long(original, config.max_tokens)}: cut to {size}")
            if not trained:
                patient.report("untrainable", policies.untrainable, "no token of it counts in the loss")
            return size, trained
        if policies.too_long != "fix":
            patient.report("too_long", policies.too_long, _too_long(original, config.max_tokens))
        elif patient.messages is not None:
            patient.messages = patient.messages[:-2]
    return 0, 0


def _too_long(size: int, bound: int) -> str:
    return f"{size} tokens, over the limit of {bound}"


def _drop_or(action: Action) -> Action:
    return "drop" if action == "fix" else action


def _collect(
    results: Iterator[list[Examined]],
    config: DataConfig,
    spool: Path,
    log: FindingsLog,
    counts: dict[str, Counter[str]],
) -> _Kept:
    kept, seen, resembling = _Kept(), dict[bytes, str](), NearDuplicates(config.near_duplicate_threshold)
    bound = config.max_chats or 2**62
    with pq.ParquetWriter(spool, SCHEMA) as writer:
        for batch in results:
            rows = []
            for chat in batch:
                if len(kept.tokens) >= bound:
                    break
                counts[chat.where.rpartition(":")[0]][chat.form] += 1
                log.extend(chat.findings)
                if chat.messages is not None and _is_new(chat, config, seen, resembling, kept, log):
                    rows.append(_row(chat))
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
            if len(kept.tokens) >= bound:
                break
    return kept


def _is_new(
    chat: Examined,
    config: DataConfig,
    seen: dict[bytes, str],
    resembling: NearDuplicates,
    kept: _Kept,
    log: FindingsLog,
) -> bool:
    """Compare a chat with those before it; keep its measures if it stays."""
    key = chat.key()
    if (first := seen.setdefault(key, chat.where)) != chat.where:
        log.add(Finding("duplicate", chat.where, f"the same chat as {first}", config.policies.duplicate))
        if config.policies.duplicate != "warn":
            return False
    near = resembling.add(chat.signature)
    if near and first == chat.where:
        number, share = near[0]
        problem = f"nearly the same chat as {kept.wheres[number]} (similarity {share:.2f})"
        log.add(Finding("near_duplicate", chat.where, problem, config.policies.near_duplicate))
        if config.policies.near_duplicate != "warn":
            resembling.forget_last()
            return False
    kept.near += [(len(kept.tokens), number, share) for number, share in near]
    kept.places.append(place_of(key, config.seed))
    kept.tokens.append(chat.num_tokens)
    kept.trained.append(chat.num_trained_tokens)
    kept.turns.append(sum(m.role != "system" for m in chat.messages or []))
    kept.wheres.append(chat.where)
    return True


def _sides(kept: _Kept, config: DataConfig, log: FindingsLog) -> list[str | None]:
    """Return `train`, `eval` or None (dropped) for every kept chat."""
    if len(kept.places) < 2:
        return ["train"] * len(kept.places)
    sides: list[str | None] = ["eval" if held_out else "train" for held_out in split(kept.places, config.eval_fraction)]
    action = config.policies.leakage
    # A chat that moves to the training side may take the next one along.
    while found := list(leaked(sides, kept.near)):
        for number, other, share in found:
            problem = f"held out, but nearly the same as {kept.wheres[other]}, which is trained on ({share:.2f})"
            log.add(Finding("leakage", kept.wheres[number], problem, action))
            sides[number] = {"drop": None, "fix": "train"}.get(action, "eval")
        if action != "fix":
            break
    return sides


def _row(chat: Examined) -> dict[str, Any]:
    return {
        "messages": [asdict(message) for message in chat.messages or []],
        "num_tokens": chat.num_tokens,
        "num_trained_tokens": chat.num_trained_tokens,
        "source": chat.where,
    }


def _write_sides(spool: Path, sides: Sequence[str | None], folder: Path) -> None:
    start = 0
    with (
        pq.ParquetWriter(folder / "train.parquet", SCHEMA) as train,
        pq.ParquetWriter(folder / "eval.parquet", SCHEMA) as held_out,
    ):
        for batch in pq.ParquetFile(spool).iter_batches():
            here = sides[start : start + len(batch)]
            for name, writer in (("train", train), ("eval", held_out)):
                chosen = batch.filter(pa.array([side == name for side in here]))
                if len(chosen):
                    writer.write_batch(chosen)
            start += len(batch)


def _count_sides(sides: Sequence[str | None]) -> dict[str, int]:
    counts = Counter(sides)
    return {"kept": counts["train"] + counts["eval"], "train": counts["train"], "eval": counts["eval"]}


def _tokens(kept: _Kept, sides: Sequence[str | None], side: str) -> dict[str, int]:
    chosen = [index for index, there in enumerate(sides) if there == side]
    return {
        "all": sum(kept.tokens[i] for i in chosen),
        "trained": sum(kept.trained[i] for i in chosen),
        "longest": max((kept.tokens[i] for i in chosen), default=0),
    }


def _distributions(kept: _Kept, sides: Sequence[str | None]) -> dict[str, list[float]]:
    chosen = [index for index, side in enumerate(sides) if side]
    return {
        "tokens": [kept.tokens[i] for i in chosen],
        "turns": [kept.turns[i] for i in chosen],
        "trained_share": [kept.trained[i] / kept.tokens[i] for i in chosen],
    }


def _refuse_too_few(report: dict[str, Any]) -> None:
    chats = report["chats"]
    if chats["train"] and chats["eval"]:
        return
    found = ", ".join(f"{kind} {found['count']}" for kind, found in report["findings"].items()) or "nothing left out"
    advice = ""
    if chats["train"] and "leakage" in report["findings"]:
        advice = (
            "; every held-out chat resembles one that is trained on: keep them with --set data.policies.leakage=warn"
        )
    raise InputError(
        f"{chats['kept']} usable chats ({found}): at least two are needed, one of them to evaluate{advice}"
    )
