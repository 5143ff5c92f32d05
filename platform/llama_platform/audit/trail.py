"""The trail in the store: read, verified, cut by age."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from llama_platform.audit.journal import AUDIT_FOLDER, record_act
from llama_platform.audit.records import BEFORE_THE_FIRST, hash_of, parse_line
from llama_platform.errors import IntegrityError, NotFoundError
from llama_platform.storage.base import ObjectStore

PRUNED = "audit.prune"


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What was found out about one chain."""

    writer: str
    records: int
    problems: tuple[str, ...]
    """Each with the place; none where the chain is whole."""
    open: bool
    """Whether it has no end: its process still runs, or was killed, or its last records were removed."""


def read_trail(store: ObjectStore, first: date | None = None, last: date | None = None) -> Iterator[dict[str, Any]]:
    """Yield the records of some days, in the order of the days, within each chain by chain.

    Args:
        store: where they are.
        first: the first day of segments; None for the oldest there is.
        last: the last day; None for the newest.

    Raises:
        IntegrityError: a line is no record.
    """
    for key in _keys(store):
        day = key.split("/")[1]
        if (first is None or day >= str(first)) and (last is None or day <= str(last)):
            for number, line in enumerate(store.read(key).content.splitlines(), 1):
                yield parse_line(line, f"{key}:{number}")


def find_request(store: ObjectStore, request_id: str) -> list[dict[str, Any]]:
    """Return the records of a request, in the order of their days.

    Raises:
        NotFoundError: there is none.
    """
    return known_request(find_requests(store, [request_id]), request_id)


def find_requests(store: ObjectStore, request_ids: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the records of requests by id, in the order of their days; the trail is read once for all of them."""
    found: dict[str, list[dict[str, Any]]] = {request_id: [] for request_id in request_ids}
    for record in read_trail(store):
        if (request_id := record.get("request")) in found:
            found[request_id].append(record)
    return found


def known_request(found: Mapping[str, list[dict[str, Any]]], request_id: str) -> list[dict[str, Any]]:
    """Return the records of one of the requests that were looked for.

    Raises:
        NotFoundError: there is none.
    """
    if not found[request_id]:
        raise NotFoundError(f"the audit trail knows no request '{request_id}'; a newer one is there within seconds")
    return found[request_id]


def start_of(store: ObjectStore, writer: str) -> dict[str, Any] | None:
    """Return the first record of a chain, which tells what its process served; None where it is not kept any more."""
    for key in _keys(store):
        if key.endswith(f"/{writer}-{1:09d}.jsonl"):
            record = parse_line(store.read(key).content.splitlines()[0], key)
            return record if record["kind"] == "start" else None
    return None


def verify_trail(store: ObjectStore) -> list[ChainReport]:
    """Check every chain: each record's hash, the order, and that none is missing."""
    segments: dict[str, list[str]] = defaultdict(list)
    for key in _keys(store):
        segments[key.rpartition("/")[2].rpartition("-")[0]].append(key)
    pruned: dict[str, tuple[int, str]] = {}
    for record in _acts(store, PRUNED):
        for writer, (seq, digest) in record["deleted"].items():
            pruned[writer] = max(pruned.get(writer, (0, "")), (seq, digest))
    return [
        _verify(store, writer, sorted(keys, key=_first_seq), pruned.get(writer, (0, BEFORE_THE_FIRST)))
        for writer, keys in sorted(segments.items())
    ]


def prune_trail(store: ObjectStore, before: date, writer: str) -> list[str]:
    """Delete the segments of days before a day, and record that; return their keys.

    Where the bucket keeps objects locked, deleting fails and nothing is lost.

    Args:
        store: where they are.
        before: the first day that stays.
        writer: name of the chain for the record of this.

    Raises:
        StorageError: a segment could not be deleted; those before it are.
    """
    old = [key for key in _keys(store) if key.split("/")[1] < str(before)]
    if old:
        ends: dict[str, tuple[int, str]] = {}  # what is left of a chain goes on behind the last record of these
        for key in old:
            last = parse_line(store.read(key).content.splitlines()[-1], key)
            ends[last["writer"]] = max(ends.get(last["writer"], (0, "")), (last["seq"], last["hash"]))
        record_act(store, writer, PRUNED, {"before": str(before), "segments": len(old), "deleted": ends})
    for key in old:
        store.delete(key)
    return old


def _first_seq(key: str) -> int:
    """Return the number of a segment's first record, which its key ends with."""
    return int(key.removesuffix(".jsonl").rpartition("-")[2])


def _acts(store: ObjectStore, what: str) -> Iterator[dict[str, Any]]:
    """Yield the records of one kind of act; lines that are no records are what `verify_trail` names."""
    for key in _keys(store):
        for line in store.read(key).content.splitlines():
            try:
                record = parse_line(line, key)
            except IntegrityError:
                continue
            if record["kind"] == "act" and record.get("what") == what:
                yield record


def _keys(store: ObjectStore) -> Iterator[str]:
    for key in store.list_keys(f"{AUDIT_FOLDER}/"):
        if key.endswith(".jsonl") and key.count("/") == 2:
            yield key


def _verify(store: ObjectStore, writer: str, keys: list[str], pruned: tuple[int, str]) -> ChainReport:
    problems: list[str] = []
    count, seq, previous, ended = 0, 0, BEFORE_THE_FIRST, False
    for key in keys:
        named = _first_seq(key)
        if not count and named == pruned[0] + 1:  # what came before was deleted by age
            seq, previous = pruned
        for number, line in enumerate(store.read(key).content.splitlines(), 1):
            where = f"{key}:{number}"
            try:
                record = parse_line(line, where)
            except IntegrityError as error:
                problems.append(str(error))
                continue
            count += 1
            if record["writer"] != writer or (number == 1 and record["seq"] != named):
                problems.append(f"{where}: a record of another segment")
            if record["seq"] != seq + 1:
                problems.append(f"{where}: record {record['seq']} follows record {seq}")
            elif hash_of(record, previous) != record["hash"]:
                problems.append(f"{where}: record {record['seq']} was edited, or the one before it")
            elif ended:
                problems.append(f"{where}: a record behind the end")
            seq, previous = record["seq"], record["hash"]
            ended = record["kind"] in ("stop", "recovered")
    return ChainReport(writer, count, tuple(problems), not ended)
