"""Records of the audit trail: lines of JSON, each with the sha256 over itself and the record before it.

A chain is what one process has written. Its first record is number 1; whoever edits, removes or moves a record breaks
the chain at that place.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from llama_platform.errors import IntegrityError

Kind = Literal["start", "request", "begin", "end", "act", "recovered", "stop"]
"""`start`, `stop`: of the process. `request`: one that is answered as a whole; a stream has `begin` and `end`. `act`:
an act of administration beside HTTP. `recovered`: what another process has committed of one that was killed."""
BEFORE_THE_FIRST = "0" * 64


def new_writer() -> str:
    """Return a name for a chain, or for what else one process writes, which no other ever has."""
    return f"{time.time_ns()}-{secrets.token_hex(4)}"


def make_record(writer: str, seq: int, previous: str, kind: Kind, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record, with its hash.

    Args:
        writer: name of the chain.
        seq: number of the record in it, from 1.
        previous: hash of the record before.
        kind: what it tells of.
        facts: what it tells; values are JSON's.
    """
    head = {"writer": writer, "seq": seq, "kind": kind, "time": datetime.now(UTC).isoformat(timespec="milliseconds")}
    record = {**head, **facts}
    return {**record, "hash": hash_of(record, previous)}


def hash_of(record: Mapping[str, Any], previous: str) -> str:
    """Return the sha256 (hex) over the hash before and a record's content."""
    content = {name: value for name, value in record.items() if name != "hash"}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{text}".encode(errors="replace")).hexdigest()


def to_line(record: Mapping[str, Any]) -> bytes:
    """Return a record as a line."""
    return (json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n").encode(errors="replace")


def parse_line(line: bytes, where: str) -> dict[str, Any]:
    """Return the record of a line.

    Raises:
        IntegrityError: it holds none.
    """
    try:
        record = json.loads(line)
        ok = isinstance(record["seq"], int) and all(
            isinstance(record[name], str) for name in ("writer", "kind", "hash")
        )
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{where}: no record of the audit trail") from error
    if not ok:
        raise IntegrityError(f"{where}: no record of the audit trail")
    return dict(record)
