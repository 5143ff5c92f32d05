"""Preparing a dataset: from chat files to checked, counted, split chats and a report of every finding.

Memory does not grow with the texts: chats go through a scratch file, and what stays of each is a kilobyte or two.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llama_platform.data.checks.doctor import Finding
from llama_platform.data.checks.findings import FindingsLog
from llama_platform.data.checks.near_duplicates import NearDuplicates
from llama_platform.data.config import DataConfig
from llama_platform.data.examine import Examined, Examiner, examine_batch, read_batches
from llama_platform.data.reading.sources import SourceFile
from llama_platform.data.report.values import ChatCounts, DatasetReport, PromptIdentity, Side, SourceCounts, TokenCounts
from llama_platform.data.split import leaked, place_of, split, together
from llama_platform.errors import InputError
from llama_platform.models.prompt import PromptTemplate
from llama_platform.storage.regular_files import file_sha256

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("trained", pa.bool_())])
SCHEMA = pa.schema(
    [
        ("messages", pa.list_(MESSAGE)),
        ("num_tokens", pa.int32()),
        ("num_trained_tokens", pa.int32()),
        ("source", pa.string()),
        ("rejected", pa.string()),
    ]
)
"""Of the scratch file; `rejected` is in a dataset's files only where all of its chats have a worse answer, too."""


@dataclass(slots=True)
class _Kept:
    """What stays in memory of the chats that were kept."""

    places: "array[float]" = field(default_factory=lambda: array("d"))
    """Where in [0, 1) the split's hash puts them."""
    tokens: "array[int]" = field(default_factory=lambda: array("i"))
    trained: "array[int]" = field(default_factory=lambda: array("i"))
    rejected: int = 0
    """Chats with a worse answer beside their own."""
    turns: "array[int]" = field(default_factory=lambda: array("i"))
    wheres: list[str] = field(default_factory=list)
    answers: "list[array[int]]" = field(default_factory=list)
    """Digests of each chat's answers, 8 bytes each."""
    near: list[tuple[int, int, float]] = field(default_factory=list)
    """(chat, earlier chat, similarity) of near duplicates."""


def prepare(
    config: DataConfig,
    template: PromptTemplate,
    folder: Path,
    files: Sequence[SourceFile],
    examiner: Examiner | None = None,
) -> DatasetReport:
    """Read, check, count and split the configured chats into `folder`; return the report.

    Writes `train.parquet`, `eval.parquet`, `report.json`, `report.html` and, with every finding, `findings.jsonl`.

    Args:
        config: sources, policies and bounds.
        template: prompt template of the base that will be trained.
        folder: empty, or not there yet.
        files: what `open_sources` found of the configured sources.
        examiner: runs the examination; None for this process.

    Raises:
        InputError: a source cannot be read, a finding's policy is `fail`, or too few chats are left. The report
            is written even then.
    """
    from llama_platform.data.report.page import write_report

    folder.mkdir(parents=True, exist_ok=True)
    run = examiner or (lambda batches: (examine_batch(batch, config, template) for batch in batches))
    with (
        TemporaryDirectory() as scratch,
        FindingsLog(folder / "findings.jsonl") as log,
    ):
        spool = Path(scratch, "kept.parquet")
        counts: dict[str, Counter[str]] = {file.name: Counter() for file in files}
        kept = _collect(run(read_batches(files, config)), config, spool, log, counts)
        sides = _sides(kept, config, log)
        known = _known_answers(kept, sides, config, log)
        report = DatasetReport(
            name=config.name,
            sources=tuple(
                SourceCounts(file.name, file_sha256(file.path), dict(counts[file.name]))
                for file in files
                if file.problem is None
            ),
            chats=ChatCounts(
                read=sum(sum(c.values()) for c in counts.values()),
                kept=sum(side is not None for side in sides),
                train=sides.count("train"),
                eval=sides.count("eval"),
                not_read_after=config.max_chats if len(kept.tokens) >= (config.max_chats or 2**62) else None,
            ),
            tokens={"train": _tokens(kept, sides, "train"), "eval": _tokens(kept, sides, "eval")},
            held_out_answers_known=known,
            findings=log.summary(),
            prompt=PromptIdentity(template.style, template.fingerprint()),
            train_on=config.train_on,
            preferences=0 < kept.rejected == len(kept.tokens),
        )
        _write_sides(spool, sides, folder, report.preferences)
        write_report(report, _distributions(kept, sides), folder, template, config.max_tokens)
        log.refuse()
        _refuse_mixed(kept)
        _refuse_too_few(report)
    return report


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
                if chat.form is not None:
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
    kept.rejected += chat.rejected is not None
    kept.trained.append(chat.num_trained_tokens)
    kept.turns.append(sum(m.role != "system" for m in chat.messages or []))
    kept.wheres.append(chat.where)
    kept.answers.append(array("q", [_digest(m.content) for m in chat.messages or [] if m.role == "assistant"]))
    return True


def _digest(answer: str) -> int:
    words = " ".join(answer.split())
    return int.from_bytes(hashlib.blake2b(words.encode("utf-8", "replace"), digest_size=8).digest(), signed=True)


def _known_answers(kept: _Kept, sides: Sequence[str | None], config: DataConfig, log: FindingsLog) -> float:
    """Return the share of held-out answers that are trained on, too; chats with no other answers are findings."""
    trained = {answer for number, side in enumerate(sides) if side == "train" for answer in kept.answers[number]}
    known = count = 0
    for number, side in enumerate(sides):
        if side == "eval":
            found = sum(answer in trained for answer in kept.answers[number])
            known, count = known + found, count + len(kept.answers[number])
            if found == len(kept.answers[number]):
                problem = "held out, but every answer stands word for word in chats that are trained on"
                log.add(Finding("known_answers", kept.wheres[number], problem, config.policies.known_answers))
    return round(known / count, 4) if count else 0.0


def _sides(kept: _Kept, config: DataConfig, log: FindingsLog) -> list[str | None]:
    """Return `train`, `eval` or None (dropped) for every kept chat."""
    if len(kept.places) < 2:
        return ["train"] * len(kept.places)
    places = together(kept.places, kept.answers) if config.split_by == "answers" else kept.places
    sides: list[str | None] = ["eval" if held_out else "train" for held_out in split(places, config.eval_fraction)]
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
        "rejected": chat.rejected,
    }


def _write_sides(spool: Path, sides: Sequence[str | None], folder: Path, preferences: bool) -> None:
    start = 0
    schema = SCHEMA if preferences else SCHEMA.remove(SCHEMA.get_field_index("rejected"))
    with (
        pq.ParquetWriter(folder / "train.parquet", schema) as train,
        pq.ParquetWriter(folder / "eval.parquet", schema) as held_out,
    ):
        for batch in pq.ParquetFile(spool).iter_batches(columns=schema.names):
            here = sides[start : start + len(batch)]
            for name, writer in (("train", train), ("eval", held_out)):
                chosen = batch.filter(pa.array([side == name for side in here]))
                if len(chosen):
                    writer.write_batch(chosen)
            start += len(batch)


def _refuse_mixed(kept: _Kept) -> None:
    if 0 < kept.rejected < len(kept.tokens):
        raise InputError(
            f"{kept.rejected} of {len(kept.tokens)} chats have a chosen and a rejected answer: prepare preferences and "
            "other chats as two datasets"
        )


def _tokens(kept: _Kept, sides: Sequence[str | None], side: Side) -> TokenCounts:
    chosen = [index for index, there in enumerate(sides) if there == side]
    return TokenCounts(
        all=sum(kept.tokens[i] for i in chosen),
        trained=sum(kept.trained[i] for i in chosen),
        longest=max((kept.tokens[i] for i in chosen), default=0),
    )


def _distributions(kept: _Kept, sides: Sequence[str | None]) -> dict[str, list[float]]:
    chosen = [index for index, side in enumerate(sides) if side]
    return {
        "tokens": [kept.tokens[i] for i in chosen],
        "turns": [kept.turns[i] for i in chosen],
        "trained_share": [kept.trained[i] / kept.tokens[i] for i in chosen],
    }


def _refuse_too_few(report: DatasetReport) -> None:
    if report.chats.train and report.chats.eval:
        return
    found = ", ".join(f"{kind} {found.count}" for kind, found in report.findings.items()) or "nothing left out"
    advice = ""
    if report.chats.train and "leakage" in report.findings:
        advice = (
            "; every held-out chat resembles one that is trained on: keep them with --set data.policies.leakage=warn"
        )
    raise InputError(
        f"{report.chats.kept} usable chats ({found}): at least two are needed, one of them to evaluate{advice}"
    )
