"""ArtifactCache: verified copies of artifacts on this node, addressed by digest, bounded in size.

Whoever reads a copy holds a shared lock on `<digest>.use` for as long; only copies that nobody holds are evicted. The
kernel drops the lock of a process that dies.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from llama_platform.artifacts.manifest import Manifest
from llama_platform.errors import IntegrityError
from llama_platform.storage.regular_files import file_sha256

INCOMING = ".incoming-"
LEFT_BEHIND_S = 24 * 3600.0
"""Age from which an unfinished download belongs to nobody any more."""


class ArtifactCache:
    """A folder that all processes of a node share; the least recently used artifacts go first."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Use `folder`, made when first needed.

        Args:
            folder: on a local disk.
            max_bytes: bound on all copies together; copies in use may exceed it.
        """
        self._folder = folder
        self._max_bytes = max_bytes

    @contextmanager
    def held(self, digest: str, manifest: Manifest, download: Callable[[str, Path], None]) -> Iterator[Path]:
        """Yield the folder of an artifact, downloading what is not here yet; it stays while the context lasts.

        Every file is checked against the manifest, also when it was cached before: disks fail, too.

        Args:
            digest: sha256 of the manifest, in hex.
            manifest: what the artifact consists of, verified.
            download: writes the file of this name to this path.

        Raises:
            IntegrityError: a downloaded file does not match; nothing is kept then.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / digest
        with (self._folder / f"{digest}.use").open("wb") as lease:
            # Under the lock of the copy, so that nobody evicts it before the lease is taken.
            with FileLock(self._folder / f"{digest}.lock"):
                fcntl.flock(lease, fcntl.LOCK_SH)
                self._complete(target, manifest, download)
            self._evict(keep=target)
            yield target

    def _complete(self, target: Path, manifest: Manifest, download: Callable[[str, Path], None]) -> None:
        """Download the files that are missing or damaged; those in use are replaced as wholes, never written over."""
        damaged = {file for file in manifest.files if not _is_whole(manifest, file, target)}
        if damaged:
            with tempfile.TemporaryDirectory(dir=self._folder, prefix=INCOMING) as scratch:
                for file in damaged:
                    path = Path(scratch, file)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    download(file, path)
                    if not _is_whole(manifest, file, Path(scratch)):
                        raise IntegrityError(
                            f"{manifest.kind} '{manifest.name}': {file} does not match its sha256 "
                            f"{manifest.files[file].sha256}; the stored artifact is damaged and was not loaded"
                        )
                for file in damaged:
                    path = target / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Path(scratch, file).replace(path)
        os.utime(target)

    def _evict(self, keep: Path) -> None:
        for left in self._folder.glob(f"{INCOMING}*"):
            if time.time() - _used_at(left) > LEFT_BEHIND_S:
                shutil.rmtree(left, ignore_errors=True)
        entries = [p for p in self._folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
        entries.sort(key=_used_at, reverse=True)
        total = 0
        for entry in [keep, *(e for e in entries if e != keep)]:
            total += _size(entry)
            if total > self._max_bytes and entry != keep:
                self._remove(entry)

    def _remove(self, entry: Path) -> None:
        """Remove a copy unless somebody holds it, or is about to."""
        # Lock files stay: removing one while another process waits on it would let two in.
        with (
            suppress(Timeout, BlockingIOError),
            FileLock(self._folder / f"{entry.name}.lock", timeout=0),
            (self._folder / f"{entry.name}.use").open("wb") as lease,
        ):
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry, ignore_errors=True)


def _used_at(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:  # another process has evicted it
        return 0.0


def _size(entry: Path) -> int:
    try:
        return sum(p.stat().st_size for p in entry.rglob("*") if p.is_file())
    except FileNotFoundError:
        return 0


def _is_whole(manifest: Manifest, file: str, folder: Path) -> bool:
    path, entry = folder / file, manifest.files[file]
    return path.is_file() and path.stat().st_size == entry.bytes and file_sha256(path) == entry.sha256
