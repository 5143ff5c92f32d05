"""Catalog: names with their versions and aliases, as operators see them."""

from dataclasses import asdict, dataclass
from typing import Any

from llama_platform.artifacts.aliases import AliasDocument, Aliases
from llama_platform.artifacts.manifest import ArtifactKind
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion


@dataclass(frozen=True, slots=True)
class ArtifactSummary:
    """One name."""

    name: str
    versions: tuple[int, ...]
    """All of them, ascending."""
    aliased: tuple[ArtifactVersion, ...]
    """Those that aliases name."""
    aliases: AliasDocument

    def to_json(self) -> dict[str, Any]:
        """Return the summary as routes show it."""
        return {
            "name": self.name,
            "all_versions": list(self.versions),
            "aliases": {
                alias: [{"version": target.version, "weight": target.weight} for target in targets]
                for alias, targets in self.aliases.aliases.items()
            },
            "generation": self.aliases.generation,
            "versions": [{"version": v.version, "digest": v.digest, "created": v.created} for v in self.aliased],
        }


def list_artifacts(repository: ArtifactRepository, kind: ArtifactKind) -> list[ArtifactSummary]:
    """Return every name that has a version, with its aliases and what they point at.

    Raises:
        StorageError: the store cannot be read.
    """
    return [summarize(repository, kind, name) for name in repository.names(kind)]


def summarize(repository: ArtifactRepository, kind: ArtifactKind, name: str) -> ArtifactSummary:
    """Return one name's summary.

    Raises:
        StorageError: the store cannot be read.
    """
    document = Aliases(repository, kind, name).read()
    numbers = sorted({target.version for targets in document.aliases.values() for target in targets})
    aliased = tuple(repository.version(kind, name, number) for number in numbers)
    return ArtifactSummary(name, tuple(repository.versions(kind, name)), aliased, document)


def show_version(repository: ArtifactRepository, version: ArtifactVersion) -> dict[str, Any]:
    """Return everything that is known of a version: its place, digest, files and origin.

    Raises:
        IntegrityError: the manifest is missing or damaged.
    """
    facts = {key: value for key, value in asdict(version).items() if key in ("version", "digest", "created")}
    return {**facts, "uri": repository.uri(version), **repository.manifest(version).model_dump()}
