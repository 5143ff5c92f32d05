"""Bases in a store, such as `s3://bucket/bases/llama-2-7b`: copied once to each node and compared with their digest."""

import hashlib
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from llama_platform.errors import InputError, IntegrityError
from llama_platform.storage.open_store import find_objects, open_store
from llama_platform.storage.regular_files import file_sha256

CACHE = Path("~/.cache/llama-platform/bases")
"""This node's copies; every process of the node shares them."""
SCHEMES = ("s3://", "file://")
KEPT = (".safetensors", ".json", "tokenizer.model")
"""Endings of the names of files that a base is made of; pickled weights and code are left where they are."""
DIGEST_FILE = ".sha256"


def is_stored(model: str) -> bool:
    """Return whether `base.model` names a place in a store."""
    return model.startswith(SCHEMES)


@lru_cache(maxsize=16)
def fetch_base(uri: str, sha256: str | None = None, cache: Path = CACHE) -> Path:
    """Return a local folder with the files of a base.

    Args:
        uri: folder in a store that holds `config.json`, the tokenizer and safetensors.
        sha256: what `folder_digest` must say of them; a copy that was compared before is taken without asking the
            store. None takes the copy of this node, or whatever the store holds.
        cache: folder of this node for copies.

    Raises:
        InputError: there is no base, or it is another one than `sha256` says.
        StorageError: the store cannot be read.
        IntegrityError: a file came with another size than the store told.
    """
    home = cache.expanduser()
    home.mkdir(parents=True, exist_ok=True)
    folder = home / hashlib.sha256(uri.rstrip("/").encode()).hexdigest()[:32]
    with FileLock(f"{folder}.lock"):
        if not (folder / DIGEST_FILE).is_file():
            _copy(uri, folder)
        found = (folder / DIGEST_FILE).read_text()
        if sha256 is not None and found != sha256:
            shutil.rmtree(folder)  # the store may hold another base by now
            _copy(uri, folder)
            found = (folder / DIGEST_FILE).read_text()
    if sha256 is not None and found != sha256:
        raise InputError(f"base.model {uri}: its files have the digest {found}, not base.sha256 {sha256}")
    return folder


def folder_digest(folder: Path) -> str:
    """Return the sha256 of the names and digests of a base's files, in hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.name.endswith(KEPT)):
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _copy(uri: str, folder: Path) -> None:
    root, last, keys = find_objects(uri)
    wanted = [key for key in keys if key.endswith(KEPT) and "/" not in key.removeprefix(f"{last}/")]
    if not any(key.endswith("config.json") for key in wanted):
        raise InputError(f"base.model {uri}: holds no config.json; name the folder of a base")
    store = open_store(root)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        unfinished = Path(name) / "base"
        unfinished.mkdir()
        for key in wanted:
            path = unfinished / key.rpartition("/")[2]
            store.download(key, path)
            if path.stat().st_size != store.size(key):
                raise IntegrityError(f"{root}/{key}: came with {path.stat().st_size} bytes, not {store.size(key)}")
        (unfinished / DIGEST_FILE).write_text(folder_digest(unfinished))
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
