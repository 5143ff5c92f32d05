"""Journal: writes a process's chain of records, first to a file of its node and then to the store.

A record is in the file before what it tells of is answered, so that it outlasts the process; the store gets the records
in segments, `audit/<day>/<writer>-<number of the first>.jsonl`, each written only where nothing is. What a killed
process had not committed yet is committed by the next one on its node.
"""

import fcntl
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from llama_platform.audit.records import BEFORE_THE_FIRST, Kind, make_record, parse_line, to_line
from llama_platform.errors import IntegrityError, StorageError
from llama_platform.storage.base import ObjectStore, PreconditionFailedError

AUDIT_FOLDER = "audit"
SEGMENT_RECORDS = 5000


class Journal:
    """The chain of one process; any thread may append."""

    def __init__(self, folder: Path, writer: str) -> None:
        """Begin a chain.

        Args:
            folder: on a disk of this node; nobody else should write there.
            writer: name of the process, which no other ever has.

        Raises:
            StorageError: the folder cannot be written.
        """
        self._writer, self._path = writer, folder / f"{writer}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = _locked(self._path)
        except OSError as error:
            raise StorageError(f"{folder}: the audit trail cannot be written there: {error.strerror}") from error
        self._lock = threading.Lock()
        self._seq, self._hash = 0, BEFORE_THE_FIRST
        self._waiting: list[dict[str, Any]] = []

    def append(self, kind: Kind, facts: Mapping[str, Any]) -> None:
        """Write a record to the file; when this returns, the process may be killed and the record stays.

        Raises:
            StorageError: the file cannot be written, such as on a full disk.
        """
        with self._lock:
            record = make_record(self._writer, self._seq + 1, self._hash, kind, facts)
            line, start = to_line(record), self._file.tell()
            try:
                if self._file.write(line) != len(line):
                    raise OSError("the disk is full")
            except OSError as error:
                self._file.truncate(start)
                raise StorageError("the audit trail cannot be written on this node; nothing is done unseen") from error
            self._seq, self._hash = record["seq"], record["hash"]
            self._waiting.append(record)

    def commit(self, store: ObjectStore) -> None:
        """Write what is not in the store yet, and forget it here; the file goes on with what comes.

        Raises:
            StorageError: the store cannot be written; the next time writes the same.
            IntegrityError: somebody else has written under this chain's name.
        """
        with self._lock:
            waiting = list(self._waiting)
        os.fsync(self._file.fileno())  # not under the lock: whoever appends must not wait for a disk
        for start in range(0, len(waiting), SEGMENT_RECORDS):
            part = waiting[start : start + SEGMENT_RECORDS]
            write_segment(store, part)
            with self._lock:
                del self._waiting[: len(part)]

    def close(self, store: ObjectStore) -> None:
        """End the chain, commit it, and remove the file.

        Raises:
            StorageError: the store cannot be written; the file stays, for the next process of the node.
        """
        self.append("stop", {})
        self.commit(store)
        self._path.unlink(missing_ok=True)
        self._file.close()


def recover(folder: Path, store: ObjectStore) -> list[str]:
    """Commit what killed processes of this node have left in their files; return the names of their chains.

    Raises:
        StorageError: the store cannot be read or written; nothing is lost.
    """
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        try:
            file = _locked(path, create=False)
        except (BlockingIOError, FileNotFoundError):  # its process lives, or another one recovers it
            continue
        with file:
            _recover(path, file, store)
        found.append(path.stem)
    return found


def write_segment(store: ObjectStore, records: list[dict[str, Any]]) -> None:
    """Write records of one chain, the first of which names the segment.

    Raises:
        IntegrityError: other records have that name already.
    """
    first = records[0]
    key = f"{AUDIT_FOLDER}/{first['time'][:10]}/{first['writer']}-{first['seq']:09d}.jsonl"
    content = b"".join(map(to_line, records))
    try:
        store.write(key, content, if_absent=True)
    except PreconditionFailedError as error:
        # An earlier try has written it, and only its answer was lost; or one has written a beginning of it.
        kept = store.read(key).content
        if not content.startswith(kept) or not kept:
            raise IntegrityError(f"{store.root}/{key}: holds other records than this process wrote") from error
        if rest := records[kept.count(b"\n") :]:
            write_segment(store, rest)


def record_act(store: ObjectStore, writer: str, what: str, facts: Mapping[str, Any]) -> None:
    """Write an act of administration beside HTTP, such as of the command line, as a chain of its own.

    Args:
        store: where the trail is.
        writer: name of the chain, which no other ever has.
        what: what was done, such as `keys.revoke`.
        facts: on what; values are JSON's.
    """
    act = make_record(writer, 1, BEFORE_THE_FIRST, "act", {"what": what, **facts})
    write_segment(store, [act, make_record(writer, 2, act["hash"], "stop", {})])


def _locked(path: Path, create: bool = True) -> BinaryIO:
    # Unbuffered: one write for a record, which the kernel has when it returns.
    file = path.open("ab" if create else "r+b", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def _recover(path: Path, file: BinaryIO, store: ObjectStore) -> None:
    records = []
    for number, line in enumerate(file.read().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):  # the process was killed while it wrote, and nobody was answered
            break
        records.append(parse_line(line, f"{path}:{number}"))
    if records:
        last = records[-1]
        if last["kind"] != "stop":
            records.append(make_record(last["writer"], last["seq"] + 1, last["hash"], "recovered", {}))
        committed = max(_committed(store, last["writer"]), default=0)
        if left := [record for record in records if record["seq"] > committed]:
            write_segment(store, left)
    path.unlink(missing_ok=True)


def _committed(store: ObjectStore, writer: str) -> list[int]:
    """Return the numbers of a chain's records that are in the store."""
    found = []
    for day in store.list_folders(f"{AUDIT_FOLDER}/"):
        for key in store.list_keys(f"{AUDIT_FOLDER}/{day}/{writer}-"):
            found += [parse_line(line, key)["seq"] for line in store.read(key).content.splitlines()]
    return found
