"""Sources: the chat files that paths, folders, `s3://` objects and prefixes name.

What lies in a folder and is not read is listed with the reason, so that nothing is passed over in silence.
"""

import mimetypes
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from llama_platform.errors import InputError
from llama_platform.storage.open_store import find_objects, open_store
from llama_platform.storage.regular_files import list_files, problem_of

CHAT_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson", ".txt", ".csv", ".tsv", ".parquet"})
"""Kinds of files that are read; all but Parquet also compressed, with `.gz` behind."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file on this machine that may hold chats."""

    path: Path
    name: str
    """How the user named it: a path, or the URI that it was downloaded from."""
    listed: bool = False
    """Whether it was found in a folder or prefix, rather than named itself."""
    problem: str | None = None
    """Why it is not read."""


@contextmanager
def open_sources(sources: Sequence[str], exclude: Sequence[str] = ()) -> Iterator[list[SourceFile]]:
    """Yield the files that `sources` name: files, folders, and `s3://` objects or prefixes.

    What lies in a store is downloaded for as long as the context lasts.

    Args:
        sources: paths and URIs.
        exclude: patterns of paths within folders and prefixes that are left out, such as `*/old/*` or `*.txt`.

    Raises:
        InputError: a source does not exist, or holds no chat files.
        StorageError: a store refuses.
    """
    with tempfile.TemporaryDirectory(prefix="chats-") as scratch:
        files: list[SourceFile] = []
        for number, source in enumerate(sources):
            remote = "://" in source
            found = _download(source, Path(scratch, str(number)), exclude) if remote else _local_files(source, exclude)
            if all(file.problem for file in found):
                seen = "".join(f"\n{file.name}: {file.problem}" for file in found[:10])
                raise InputError(f"{source}: no chats there; read are {_known()}{seen}")
            files += found
        if not files:
            raise InputError("data.sources: empty; name at least one file, folder or s3:// prefix with chats")
        yield files


def _local_files(source: str, exclude: Sequence[str]) -> list[SourceFile]:
    root = Path(source)
    if root.is_dir():
        found: dict[Path, SourceFile] = {}
        for path, problem in list_files(root):
            inside = path.relative_to(root)
            if not _excluded(inside.as_posix(), exclude):
                shown = root / _shown(inside)
                reason = problem if shown == path else None
                found.setdefault(shown, SourceFile(shown, str(shown), True, reason or _unread(inside.as_posix())))
        return list(found.values())
    try:
        path = root.resolve()  # the user may name a link
        return [SourceFile(path, source, False, problem_of(path))]
    except FileNotFoundError as error:
        raise InputError(f"{source}: no such file or folder") from error


def _download(source: str, folder: Path, exclude: Sequence[str]) -> list[SourceFile]:
    root, last, found = find_objects(source)
    store, files = open_store(root), []
    for key in found:
        inside = key.removeprefix(f"{last}/") if last else key
        listed = key != last
        if key.endswith("/") or (listed and _excluded(inside, exclude)):  # consoles make folders so
            continue
        path, problem = folder / key, _unread(inside) if listed else None
        if problem is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            store.download(key, path)
        files.append(SourceFile(path, f"{root}/{key}", listed, problem))
    return files


def _excluded(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(path, pattern) or fnmatch(PurePosixPath(path).name, pattern) for pattern in patterns)


def _unread(path: str) -> str | None:
    """Return why a file of a folder is not read, judged by its name; None if it is."""
    if any(part.startswith(".") for part in PurePosixPath(path).parts):
        return "hidden, and so not read"
    suffix = PurePosixPath(path.lower().removesuffix(".gz")).suffix
    if suffix in CHAT_SUFFIXES:
        return None
    kind = mimetypes.guess_type(path)[0] or (f"a '{suffix}' file" if suffix else "a file without a suffix")
    return f"not read: {kind}"


def _shown(inside: Path) -> Path:
    """Return a path, or of what lies in a hidden folder only that: it may hold thousands of files."""
    hidden = next((place for place, part in enumerate(inside.parts) if part.startswith(".")), len(inside.parts))
    return Path(*inside.parts[: hidden + 1])


def _known() -> str:
    return f"{', '.join(sorted(CHAT_SUFFIXES))}, and .gz of these"
