"""Pruning: what a store holds that nobody can reach any more, found first and deleted when asked to.

Never found: the newest versions of a name, what an alias points at or its history names (so a rollback finds it), and
datasets that an adapter which stays was trained on. Replicas pin what aliases name, so that what they hold is among
these.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.manifest import ArtifactKind
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion, locate
from llama_platform.errors import NotFoundError

log = logging.getLogger(__name__)

KINDS: tuple[ArtifactKind, ...] = ("adapter", "index", "dataset")
"""Adapters first: those that stay keep their datasets. Checkpoints are pruned by their runs."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """A version that nothing needs, or files that no version names."""

    kind: ArtifactKind
    name: str
    version: ArtifactVersion | None
    """None for files that a publish left behind which never came to its commit."""
    keys: tuple[str, ...]
    """Of the files that go with it."""
    size_bytes: int

    @property
    def label(self) -> str:
        """Return how it is shown."""
        return f"{self.name}@{self.version.version}" if self.version else f"{self.name}: a publish without a commit"


def find_garbage(repository: ArtifactRepository, keep: int, before: datetime) -> list[Garbage]:
    """Return what can go.

    Args:
        repository: what of its store can go is looked for.
        keep: how many of the newest versions of each name stay.
        before: what was made later stays; a publish may be under way.

    Raises:
        StorageError: the store cannot be read.
        IntegrityError: a commit record or an adapter that stays is damaged: nothing is known of what it needs.
    """
    found: list[Garbage] = []
    trained_on: set[tuple[str, int]] = set()
    for kind in KINDS:
        for name in repository.folders(kind):
            versions = [repository.version(kind, name, number) for number in repository.versions(kind, name)]
            needed = protected(repository, kind, name) | {version.version for version in versions[-keep:]}
            if kind == "dataset":
                needed |= {number for dataset, number in trained_on if dataset == name}
            going = [v for v in versions if v.version not in needed and datetime.fromisoformat(v.created) < before]
            staying = [version for version in versions if version not in going]
            if kind == "adapter":
                trained_on |= {pair for version in staying for pair in _datasets(repository, version)}
            found += _of_name(repository, kind, name, going, staying, before)
    return found


def protected(repository: ArtifactRepository, kind: ArtifactKind, name: str) -> set[int]:
    """Return the versions that an alias of a name points at or that its history names."""
    document = Aliases(repository, kind, name).read()
    pointed = [*document.aliases.values(), *(change.targets for change in document.history)]
    return {target.version for targets in pointed for target in targets}


def delete_garbage(repository: ArtifactRepository, garbage: Garbage) -> bool:
    """Delete it; return whether it went: a version that an alias has come to name meanwhile stays.

    Raises:
        StorageError: the store refused; what is left is no version any more, and is found again.
    """
    version = garbage.version
    if version is None:
        for key in garbage.keys:
            repository.store.delete(key)
    elif not repository.delete(version, lambda: version.version in protected(repository, version.kind, version.name)):
        log.warning("a version stays: an alias has come to name it", extra={"artifact": garbage.label})
        return False
    log.info("pruned", extra={"kind": garbage.kind, "artifact": garbage.label, "bytes": garbage.size_bytes})
    return True


def _of_name(
    repository: ArtifactRepository,
    kind: ArtifactKind,
    name: str,
    going: list[ArtifactVersion],
    staying: list[ArtifactVersion],
    before: datetime,
) -> Iterator[Garbage]:
    files: dict[str, list[str]] = {}
    for key in repository.store.list_keys(f"{locate(kind, name)}/objects/"):
        files.setdefault(key.removeprefix(f"{locate(kind, name)}/objects/").partition("/")[0], []).append(key)
    kept = {version.digest for version in staying}
    for version in going:
        keys = [] if version.digest in kept else files.get(version.digest, [])
        yield Garbage(kind, name, version, tuple(keys), sum(map(repository.store.size, keys)))
    named = kept | {version.digest for version in going}
    for digest, keys in files.items():
        if digest not in named and all(repository.store.modified(key) < before for key in keys):
            yield Garbage(kind, name, None, tuple(keys), sum(map(repository.store.size, keys)))


def _datasets(repository: ArtifactRepository, version: ArtifactVersion) -> Iterator[tuple[str, int]]:
    try:
        dataset = repository.manifest(version).metadata.get("dataset")
    except NotFoundError:  # deleted by somebody else meanwhile
        return
    if isinstance(dataset, dict) and "name" in dataset and "version" in dataset:
        yield str(dataset["name"]), int(dataset["version"])
