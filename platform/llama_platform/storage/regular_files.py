"""Regular files: what may be read of a folder that somebody else filled.

A link could lead out of the folder, and a pipe or device could be read for ever. Both are told apart from files before
they are opened, and once more while they are, since a folder may change in between.
"""

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from io import BufferedReader
from pathlib import Path

from llama_platform.errors import InputError

LINK = "a link: links are not followed; copy what it points at into the folder (cp -rL)"
NO_FILE = "neither a file nor a folder"


def list_files(folder: Path, skipped_folders: Collection[str] = ()) -> Iterator[tuple[Path, str | None]]:
    """Yield everything below a folder that is no folder itself, in lexical order of each folder.

    Args:
        folder: searched with all folders below it; links to folders are not followed.
        skipped_folders: names of folders that are left out.

    Yields:
        (path, problem): problem is None for a regular file, else why it must not be read. What vanishes meanwhile
            is left out.
    """
    unreadable: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(set(folders).difference(skipped_folders))
        linked = [name for name in folders if Path(parent, name).is_symlink()]
        for name in sorted([*names, *linked]):
            path = Path(parent, name)
            try:
                problem = problem_of(path)
            except FileNotFoundError:
                continue
            yield path, problem
    for error in unreadable:
        if not isinstance(error, FileNotFoundError):
            yield Path(error.filename), f"cannot be read: {error.strerror}"


def problem_of(path: Path) -> str | None:
    """Return why a path must not be read, None for a regular file.

    Raises:
        FileNotFoundError: nothing is there.
    """
    mode = path.lstat().st_mode
    return None if stat.S_ISREG(mode) else LINK if stat.S_ISLNK(mode) else NO_FILE


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        InputError: it is a link, a pipe or a device.
        OSError: it is not there, or cannot be read.
    """
    if (problem := problem_of(path)) is not None:
        raise InputError(f"{path}: {problem}")
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError(f"{path}: {NO_FILE}")
    return os.fdopen(handle, "rb")


def file_sha256(path: Path) -> str:
    """Return the sha256 of a regular file's content, in hex."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
