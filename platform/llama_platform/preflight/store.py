"""The store: reachable, with conditional writes, by this role, and of a release that this one reads."""

import secrets
from collections.abc import Iterator

from llama_platform.artifacts.repository import LOCATIONS, ArtifactRepository
from llama_platform.errors import PlatformError, StorageError
from llama_platform.preflight.findings import Finding
from llama_platform.storage.base import PreconditionFailedError

NEWEST_OF_A_KIND = 3


def check_store(repository: ArtifactRepository) -> Iterator[Finding]:
    """Write, read, list and delete one small object, and read what has been published."""
    store, key = repository.store, f"probe/preflight-{secrets.token_hex(8)}"
    if store.root.startswith("file:"):
        text = f"{store.root} is a folder of this machine; nodes of a cluster need one store: set MODEL_BUCKET"
        yield Finding("warning", "store", text)
    try:
        store.write(key, b"1", if_absent=True)
        try:
            store.write(key, b"2", if_absent=True)
        except PreconditionFailedError:
            pass
        else:
            raise StorageError("a conditional write over an object that is there was not refused")
        store.read(key)
        list(store.list_keys("probe/"))
    except PlatformError as error:
        yield Finding("error", "store", f"{store.root}: {error}")
        return
    try:
        store.delete(key)
    except StorageError as error:
        yield Finding("warning", "store", f"this role may not delete: pruning and erasing will fail ({error})")
    yield Finding("ok", "store", f"{store.root}: written, read and listed, with conditional writes")
    yield from _published(repository)


def _published(repository: ArtifactRepository) -> Iterator[Finding]:
    read = 0
    for kind in LOCATIONS:
        try:
            names = repository.names(kind)
        except StorageError as error:
            yield Finding("error", "published", f"the names of the kind {kind} cannot be listed: {error}")
            continue
        for name in names[-NEWEST_OF_A_KIND:]:
            try:
                repository.manifest(repository.latest(kind, name))
                read += 1
            except PlatformError as error:
                text = f"{kind} '{name}' cannot be read: damaged, or written by another release ({error})"
                yield Finding("error", "published", text)
    yield Finding("ok", "published", f"the newest versions of {read} artifacts are readable")
