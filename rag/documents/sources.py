"""Sources: the files that paths, folders and `s3://` prefixes name. Nothing else is ever fetched."""

import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from llama_platform.errors import InputError
from llama_platform.storage.open_store import find_objects, open_store
from llama_platform.storage.regular_files import list_files, problem_of

SKIPPED_FOLDERS = frozenset({".git", ".venv", "node_modules", "__pycache__"})
"""Hold tools' files, never documents."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that may hold documents."""

    id: str
    """Path relative to the source that it was found in."""
    root: str
    """Folder, or URI of the part of a store, that `key` is relative to."""
    key: str
    problem: str | None = None
    """Why it must not be read; None for a regular file."""


def list_sources(sources: Sequence[str]) -> list[SourceFile]:
    """Return the files below sources, ordered by id.

    Raises:
        InputError: a source does not exist, or two files have the same id.
        StorageError: a store refuses.
    """
    found: dict[str, SourceFile] = {}
    for source in sources:
        for found_file in _remote_files(source) if "://" in source else _local_files(Path(source)):
            # Of the two spellings that a name with accents has, one.
            file = replace(found_file, id=unicodedata.normalize("NFC", found_file.id))
            if (other := found.setdefault(file.id, file)) is not file:
                raise InputError(
                    f"{file.root}/{file.key}: a document '{file.id}' was already found in {other.root}; rename one"
                )
    return [found[name] for name in sorted(found)]


@contextmanager
def local_copy(file: SourceFile, max_bytes: int | None = None) -> Iterator[Path]:
    """Yield a path on this machine: the file itself, or a copy out of a store for as long as the context lasts.

    Args:
        file: file to read.
        max_bytes: bound on what is copied.

    Raises:
        InputError: it is larger, or must not be read.
        StorageError: a store refuses.
        NotFoundError: it is gone.
    """
    if file.problem is not None:
        raise InputError(file.problem)
    if "://" not in file.root:
        yield Path(file.root, file.key)
        return
    store = open_store(file.root)
    if max_bytes is not None and (size := store.size(file.key)) > max_bytes:
        raise InputError(f"{size} bytes, over the limit of {max_bytes}")
    with tempfile.TemporaryDirectory(prefix="documents-") as scratch:
        path = Path(scratch, "file").with_suffix(Path(file.key).suffix)
        store.download(file.key, path)
        yield path


def _local_files(root: Path) -> Iterator[SourceFile]:
    if root.exists() and not root.is_dir():
        yield SourceFile(root.name, str(root.resolve().parent), root.resolve().name, problem_of(root.resolve()))
        return
    if not root.is_dir():
        raise InputError(f"{root}: no such file or folder")
    root = root.resolve()
    for path, problem in list_files(root, SKIPPED_FOLDERS):
        key = path.relative_to(root).as_posix()
        yield SourceFile(key, str(root), key, problem)


def _remote_files(source: str) -> Iterator[SourceFile]:
    root, last, found = find_objects(source)
    keys = [key for key in found if not key.endswith("/")]  # consoles make folders so
    if not keys:
        raise InputError(f"{source}: no objects there")
    for key in keys:
        yield SourceFile(key.removeprefix(f"{last}/") if last else key, root, key)
