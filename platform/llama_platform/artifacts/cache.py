"""ArtifactCache: verified copies of artifacts on this node, addressed by digest, bounded in size."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from llama_platform.artifacts.manifest import Manifest, file_sha256
from llama_platform.errors import IntegrityError

IN_USE_S = 60


class ArtifactCache:
    """A folder that all processes of a node share; the least recently used artifacts go first."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Use `folder`, made when first needed.

        Args:
            folder: on a local disk.
            max_bytes: bound on all copies together; one that alone is larger is still kept while it is newest.
        """
        self._folder = folder
        self._max_bytes = max_bytes

    def folder(self, digest: str, manifest: Manifest, download: Callable[[str, Path], None]) -> Path:
        """Return the folder of an artifact, downloading what is not here yet.

        Every file is checked against the manifest, also when it was cached before: disks fail, too.

        Args:
            digest: of the artifact.
            manifest: its verified manifest.
            download: writes the file of this name to this path.

        Raises:
            IntegrityError: a downloaded file does not match; nothing is kept then.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / digest
        with FileLock(self._folder / f"{digest}.lock"):
            if target.exists():
                try:
                    _verify(manifest, target)
                except IntegrityError:
                    shutil.rmtree(target)
                else:
                    os.utime(target)
                    return target
            with tempfile.TemporaryDirectory(dir=self._folder, prefix=".incoming-") as scratch:
                incoming = Path(scratch) / digest
                for file in manifest.files:
                    path = incoming / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    download(file, path)
                _verify(manifest, incoming)
                incoming.rename(target)
        self._evict(keep=target)
        return target

    def _evict(self, keep: Path) -> None:
        entries = [p for p in self._folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
        entries.sort(key=_used_at, reverse=True)
        total = 0
        for entry in [keep, *(e for e in entries if e != keep)]:
            total += _size(entry)
            # What was handed out a moment ago may be about to be read.
            if total > self._max_bytes and entry != keep and time.time() - _used_at(entry) > IN_USE_S:
                with FileLock(self._folder / f"{entry.name}.lock"):
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


def _verify(manifest: Manifest, folder: Path) -> None:
    for file, entry in manifest.files.items():
        path = folder / file
        if not path.is_file() or path.stat().st_size != entry.bytes or file_sha256(path) != entry.sha256:
            raise IntegrityError(
                f"{manifest.kind} '{manifest.name}': {file} does not match its sha256 {entry.sha256}; "
                "the stored artifact is damaged and was not loaded"
            )
