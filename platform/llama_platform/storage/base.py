"""ObjectStore: bytes under keys below one root URI, with conditional writes.

Keys are relative, `/`-separated texts. Everything above this protocol works the same on a local folder
and on S3.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from llama_platform.errors import ConflictError, InputError


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Content of a small object and the tag that identifies this state of it."""

    content: bytes
    etag: str


class PreconditionFailedError(ConflictError):
    """A conditional write lost: the object exists already, or has changed since it was read."""


class ObjectStore(Protocol):
    """A flat store of objects; every method raises StorageError with the URI, or one of its own kind below."""

    @property
    def root(self) -> str:
        """URI that keys are relative to, without a trailing slash."""
        ...

    def write(self, key: str, content: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write a small object at once and return its etag.

        Args:
            key: relative key.
            content: at most a few MB.
            if_absent: write only where nothing is.
            if_match: write only over the state with this etag.

        Raises:
            PreconditionFailedError: the condition does not hold.
        """
        ...

    def read(self, key: str) -> StoredObject:
        """Return a small object.

        Raises:
            NotFoundError: there is none under the key.
        """
        ...

    def read_if_changed(self, key: str, etag: str | None) -> StoredObject | None:
        """Return a small object, or None if its state is still the one with this etag.

        Raises:
            NotFoundError: there is none under the key.
        """
        ...

    def upload(self, path: Path, key: str, sha256: str) -> None:
        """Copy a file of any size into the store, and check on the server that it arrived whole.

        Args:
            path: local file.
            key: relative key.
            sha256: hex digest of the file's content.

        Raises:
            IntegrityError: what the server holds is not what was sent.
        """
        ...

    def matches(self, path: Path, key: str, sha256: str) -> bool:
        """Return whether the store holds exactly this file under a key; False where it holds nothing.

        Args:
            path: local file.
            key: relative key.
            sha256: hex digest of the file's content.
        """
        ...

    def download(self, key: str, path: Path) -> None:
        """Copy an object of any size to a local file; the caller verifies its digest.

        Raises:
            NotFoundError: there is none under the key.
        """
        ...

    def size(self, key: str) -> int:
        """Return the bytes of an object.

        Raises:
            NotFoundError: there is none under the key.
        """
        ...

    def modified(self, key: str) -> datetime:
        """Return when an object was written, with its time zone.

        Raises:
            NotFoundError: there is none under the key.
        """
        ...

    def check(self) -> None:
        """Check that the store itself is there, so that an object which is not found really does not exist.

        Raises:
            StorageError: it is not, such as a share that is not mounted.
        """
        ...

    def list_keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with `prefix`, in lexical order."""
        ...

    def list_folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly below `prefix`, which ends with a slash, in lexical order."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object; deleting what is not there is no error."""
        ...


def check_key(key: str) -> str:
    """Return `key` if it is safe below any root.

    Raises:
        InputError: it is empty, absolute, or has empty, `.` or `..` parts or control characters.
    """
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in key or not key.isprintable():
        raise InputError(f"storage key {key!r} is not allowed: use names separated by single slashes")
    return key
