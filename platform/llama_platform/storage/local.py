"""LocalStore: `file://` URIs. Writes are atomic (rename), conditional ones happen under a file lock."""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from llama_platform.errors import IntegrityError, NotFoundError, StorageError
from llama_platform.storage.base import PreconditionFailedError, StoredObject, check_key
from llama_platform.storage.regular_files import file_sha256, list_files, open_file

LOCK_FOLDER = ".locks"
TEMPORARY = "tmp"
"""How the names of files begin that are being written."""
LEFT_BEHIND_S = 24 * 3600.0
"""Age from which an unfinished file belongs to a writer that has died."""
SWEEP_S = 3600.0
"""How often a process looks for unfinished files, at most."""


class LocalStore:
    """Objects are files below a folder that several processes of one machine may share."""

    def __init__(self, folder: Path) -> None:
        """Open the store in `folder`, which is made when something is first written."""
        self._folder = folder.absolute()
        self._swept_at = -SWEEP_S

    @property
    def root(self) -> str:
        """The folder as a `file://` URI."""
        return self._folder.as_uri()

    def write(self, key: str, content: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write atomically; see ObjectStore."""
        path = self._path(key)
        with self._reported(key), self._lock(key), self._replacing(path) as temporary:
            current = file_sha256(path) if path.exists() else None
            if (if_absent and current is not None) or (if_match is not None and current != if_match):
                raise PreconditionFailedError(f"{self.root}/{key}: changed by somebody else")
            temporary.write_bytes(content)
        return _etag(content)

    def read(self, key: str) -> StoredObject:
        """Read whole; see ObjectStore."""
        with self._reported(key), open_file(self._path(key)) as file:
            content = file.read()
        return StoredObject(content, _etag(content))

    def read_if_changed(self, key: str, etag: str | None) -> StoredObject | None:
        """Read and compare; see ObjectStore."""
        stored = self.read(key)
        return None if stored.etag == etag else stored

    def upload(self, path: Path, key: str, sha256: str) -> None:
        """Copy, flush to disk and read back; see ObjectStore."""
        target = self._path(key)
        with self._reported(key), self._replacing(target) as temporary:
            with open_file(path) as source, temporary.open("wb") as file:
                shutil.copyfileobj(source, file)
            arrived = file_sha256(temporary)
            if arrived != sha256:
                raise IntegrityError(f"{self.root}/{key}: arrived with sha256 {arrived}, sent {sha256}")

    def matches(self, path: Path, key: str, sha256: str) -> bool:
        """Read and hash; see ObjectStore."""
        try:
            with self._reported(key):
                return file_sha256(self._path(key)) == sha256
        except NotFoundError:
            return False

    def download(self, key: str, path: Path) -> None:
        """Copy out; see ObjectStore."""
        with self._reported(key), open_file(self._path(key)) as source, path.open("wb") as file:
            shutil.copyfileobj(source, file)

    def size(self, key: str) -> int:
        """Of the file; see ObjectStore."""
        with self._reported(key):
            return self._path(key).stat().st_size

    def modified(self, key: str) -> datetime:
        """Of the file; see ObjectStore."""
        with self._reported(key):
            return datetime.fromtimestamp(self._path(key).stat().st_mtime, UTC)

    def check(self) -> None:
        """Look for the folder that every write makes: an empty mount point has none; see ObjectStore."""
        if not (self._folder / LOCK_FOLDER).is_dir():
            raise StorageError(f"{self.root}: holds no store: is the folder not mounted, or was nothing written yet?")

    def list_keys(self, prefix: str) -> Iterator[str]:
        """List by walking only the folder that the prefix names; links are no objects; see ObjectStore."""
        parent = self._folder / prefix.rpartition("/")[0]
        files = (path for path, problem in list_files(parent, {LOCK_FOLDER}) if problem is None)
        paths = sorted(path.relative_to(self._folder).as_posix() for path in files)
        yield from (key for key in paths if key.startswith(prefix) and not key.startswith(LOCK_FOLDER))

    def list_folders(self, prefix: str) -> list[str]:
        """List one folder; see ObjectStore."""
        folder = self._folder / prefix
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def delete(self, key: str) -> None:
        """Delete; see ObjectStore."""
        with self._reported(key):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / check_key(key)

    def _lock(self, key: str) -> FileLock:
        # Lock files are kept: removing one while another process waits on it would let two in.
        folder = self._folder / LOCK_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / hashlib.sha256(key.encode()).hexdigest()[:2])

    @contextmanager
    def _replacing(self, path: Path) -> Iterator[Path]:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The temporary file lies outside the listed tree, on the same file system.
        scratch = self._folder / LOCK_FOLDER
        scratch.mkdir(parents=True, exist_ok=True)
        self._sweep(scratch)
        temporary = scratch / f"{TEMPORARY}{secrets.token_hex(8)}"
        temporary.touch(exist_ok=False)  # unlike tempfile's, with the mode that the umask says: others may read it
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _sweep(self, scratch: Path) -> None:
        """Remove what writers left behind that were killed."""
        if time.monotonic() - self._swept_at < SWEEP_S:
            return
        self._swept_at = time.monotonic()
        for left in scratch.glob(f"{TEMPORARY}*"):
            with suppress(FileNotFoundError):  # another process sweeps, too
                if time.time() - left.stat().st_mtime > LEFT_BEHIND_S:
                    left.unlink()

    @contextmanager
    def _reported(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.root}/{key}: does not exist") from error
        except OSError as error:
            raise StorageError(f"{self.root}/{key}: {error.strerror or error}") from error


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
