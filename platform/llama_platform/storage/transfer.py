"""Copying a whole store to another root: a backup, another region, another kind of store.

What is content goes first and what names it last, so that a copy that was interrupted names nothing that is not there.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llama_platform.errors import ConflictError, InputError, NotFoundError
from llama_platform.storage.base import ObjectStore
from llama_platform.storage.regular_files import file_sha256

AUDIT = "audit/"
"""Where segments of the audit trail are, which never change either."""
PROBES = "probe/"
"""Where stores are asked whether they heed conditions; nothing of it is kept."""


@dataclass(slots=True)
class Copied:
    """What a copy did."""

    copied: int = 0
    """Objects that were written."""
    present: int = 0
    """Objects that were there already."""
    bytes: int = 0
    """Bytes that were written."""


def copy_store(
    source: ObjectStore, target: ObjectStore, tell: Callable[[str, Copied], None] = lambda key, so_far: None
) -> Copied:
    """Copy every object of `source` that `target` does not hold; run it again to go on where it was interrupted.

    Args:
        source: read only. What is published to it meanwhile is copied with the next run.
        target: what it holds beside is left alone. Documents that change, such as aliases, become those of `source`.
        tell: called with the key of each object and the counts so far.

    Raises:
        ConflictError: `target` holds another version, run or record under a name that `source` has, too.
        StorageError: one of the two cannot be read or written.
    """
    if source.root == target.root:
        raise InputError(f"{source.root}: is source and target; give two different stores")
    source.check()
    so_far = Copied()
    with tempfile.TemporaryDirectory() as folder:
        for key in _in_order(source):
            _copy(source, target, key, Path(folder) / "object", so_far)
            tell(key, so_far)
    return so_far


def _in_order(source: ObjectStore) -> Iterator[str]:
    keys = [key for key in source.list_keys("") if not key.startswith(PROBES)]
    yield from sorted(keys, key=lambda key: (_rank(key), key))


def _rank(key: str) -> int:
    """Return 0 for content, 1 for the manifest of content, 2 for what commits it, 3 for what changes."""
    if key.startswith(AUDIT):
        return 0
    if "/objects/" in key:
        return 1 if key.endswith("/manifest.json") else 0
    return 2 if "/versions/" in key else 3


def _copy(source: ObjectStore, target: ObjectStore, key: str, path: Path, so_far: Copied) -> None:
    # What lies under a digest, and what commits it, never changes; a partly written object is none to either store.
    fixed = _rank(key) < 3
    if fixed and _size(target, key) == source.size(key):
        if _rank(key) == 2 and target.read(key).content != source.read(key).content:
            raise ConflictError(
                f"{target.root}/{key}: is another version than {source.root}/{key}; copy to an empty store, or prune it"
            )
        so_far.present += 1
        return
    source.download(key, path)
    digest = file_sha256(path)
    if target.matches(path, key, digest):
        so_far.present += 1
    elif _rank(key) == 2:
        target.write(key, path.read_bytes(), if_absent=True)
        so_far.copied += 1
        so_far.bytes += path.stat().st_size
    else:
        target.upload(path, key, digest)
        so_far.copied += 1
        so_far.bytes += path.stat().st_size


def _size(store: ObjectStore, key: str) -> int | None:
    try:
        return store.size(key)
    except NotFoundError:
        return None
