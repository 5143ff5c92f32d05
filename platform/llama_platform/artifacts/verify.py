"""Verifying a store: every file of every version against the digest that its manifest names."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.manifest import ArtifactKind
from llama_platform.artifacts.repository import LOCATIONS, ArtifactRepository, ArtifactVersion
from llama_platform.errors import IntegrityError, NotFoundError, PlatformError
from llama_platform.storage.regular_files import file_sha256


@dataclass(slots=True)
class Verified:
    """What was looked at."""

    versions: int = 0
    files: int = 0
    bytes: int = 0


def verify_store(
    repository: ArtifactRepository, tell: Callable[[str, Verified], None] = lambda label, so_far: None
) -> tuple[Verified, list[str]]:
    """Read every version of a store, past the node's cache, and return (what was read, what is wrong).

    Args:
        repository: what of its store is read.
        tell: called with the label of each version and the counts so far.

    Raises:
        StorageError: the store cannot be read at all.
    """
    repository.store.check()
    so_far, problems = Verified(), list[str]()
    for kind in LOCATIONS:
        for name in repository.folders(kind):
            numbers = repository.versions(kind, name)
            for number in numbers:
                tell(f"{kind} {name}@{number}", so_far)
                problems += _problems_of(repository, kind, name, number, so_far)
            problems += _dangling(repository, kind, name, set(numbers))
    return so_far, problems


def _problems_of(
    repository: ArtifactRepository, kind: ArtifactKind, name: str, number: int, so_far: Verified
) -> Iterator[str]:
    try:
        version = repository.version(kind, name, number)
        manifest = repository.manifest(version)
    except (IntegrityError, NotFoundError) as error:
        yield str(error)
        return
    so_far.versions += 1
    for file, entry in manifest.files.items():
        so_far.files += 1
        so_far.bytes += entry.bytes
        if problem := _problem_of(repository, version, file, entry.sha256):
            yield problem


def _problem_of(repository: ArtifactRepository, version: ArtifactVersion, file: str, sha256: str) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        try:
            repository.download(version, file, path)
        except PlatformError as error:
            return str(error)
        found = file_sha256(path)
    if found == sha256:
        return None
    return f"{repository.uri(version)}/{file}: does not match its sha256 {sha256}; it is {found}"


def _dangling(repository: ArtifactRepository, kind: ArtifactKind, name: str, numbers: set[int]) -> Iterator[str]:
    if kind == "checkpoint":
        return
    try:
        document = Aliases(repository, kind, name).read()
    except IntegrityError as error:
        yield str(error)
        return
    for alias, targets in document.aliases.items():
        for target in targets:
            if target.version not in numbers:
                yield f"{kind} {name}: alias '{alias}' points at version {target.version}, which there is not"
