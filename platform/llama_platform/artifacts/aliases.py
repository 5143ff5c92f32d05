"""Aliases: names such as `production` that point at one version, or split traffic over several.

Every change is a new generation of `aliases.json`, written by compare-and-swap; the last 100 are kept as history.
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from llama_platform.artifacts.manifest import ArtifactKind, check_name
from llama_platform.artifacts.repository import ArtifactRepository, locate
from llama_platform.errors import ConflictError, InputError, NotFoundError
from llama_platform.storage.document import WRITE_TRIES, StoredDocument

HISTORY_LENGTH = 100
BUCKETS = 10_000


class Target(BaseModel):
    """A version and its share of the alias's traffic."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Annotated[int, Field(ge=1)]
    weight: Annotated[int, Field(ge=1)]


class AliasChange(BaseModel):
    """One generation: which alias came to point where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: int
    at: str
    alias: str
    action: Literal["promote", "split", "rollback"]
    targets: tuple[Target, ...]
    parent: int | None
    """Generation whose targets a rollback from here restores."""
    restores: int | None = None
    """For a rollback: the generation whose targets and parent it took over."""


class AliasDocument(BaseModel):
    """Content of `aliases.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: int = 0
    aliases: dict[str, tuple[Target, ...]] = {}
    history: tuple[AliasChange, ...] = ()

    def pointed_at(self, alias: str) -> int:
        """Return the generation in which an alias came to point where it does; 0 where history does not hold it."""
        return next((entry.generation for entry in reversed(self.history) if entry.alias == alias), 0)


def check_alias(alias: str) -> str:
    """Return `alias` if it may name one.

    Raises:
        InputError: it may not.
    """
    check_name(alias, "alias")
    if alias.isdigit():
        raise InputError(f"alias {alias!r} is not allowed: all digits would read as a version")
    return alias


class Aliases:
    """The aliases of one artifact name."""

    def __init__(self, repository: ArtifactRepository, kind: ArtifactKind, name: str) -> None:
        """Work on `name`'s `aliases.json`; nothing is read yet."""
        self._repository = repository
        self._kind: ArtifactKind = kind
        self._name = name
        self._document = StoredDocument(repository.store, f"{locate(kind, name)}/aliases.json", AliasDocument)

    def read(self) -> AliasDocument:
        """Return the present state; empty where no alias was ever set."""
        return self._document.read()

    def read_if_changed(self, etag: str | None) -> tuple[AliasDocument, str] | None:
        """Return the present state and its etag, or None if it is still the one with this etag.

        Raises:
            NotFoundError: no alias was ever set.
            IntegrityError: the document is damaged.
        """
        return self._document.read_if_changed(etag)

    def promote(
        self, alias: str, version: int, expected_generation: int | None = None, parent: int | None = None
    ) -> AliasDocument:
        """Point `alias` at one version.

        Args:
            alias: what is pointed.
            version: at what.
            expected_generation: the generation that the document must have; None for any.
            parent: the generation that a rollback from here restores; None for the alias's present one.

        Raises:
            NotFoundError: the version was never committed.
            ConflictError: the generation is not the expected one.
        """
        return self._point("promote", alias, {version: 1}, expected_generation, parent)

    def advance(self, alias: str, version: int) -> bool:
        """Point `alias` at a version, unless it points at a newer one already; return whether it does now.

        Raises:
            NotFoundError: there is no such version.
            ConflictError: others kept changing the aliases.
        """
        for _ in range(WRITE_TRIES):
            document = self.read()
            if any(target.version > version for target in document.aliases.get(alias, ())):
                return False
            try:
                self.promote(alias, version, document.generation)
            except ConflictError:
                continue
            return True
        raise ConflictError(f"{self._kind} '{self._name}': others kept changing its aliases; run it again")

    def split(self, alias: str, weights: Mapping[int, int], expected_generation: int | None = None) -> AliasDocument:
        """Spread `alias` over versions in proportion to `weights`.

        Raises:
            InputError: no weights, or one below 1.
            NotFoundError: a version was never committed.
            ConflictError: the generation is not the expected one.
        """
        if not weights or min(weights.values()) < 1:
            raise InputError("split: give at least one version, every weight at least 1")
        return self._point("split", alias, weights, expected_generation)

    def rollback(self, alias: str, expected_generation: int | None = None) -> AliasDocument:
        """Point `alias` at its previous targets; a second rollback goes one further back.

        Raises:
            NotFoundError: the alias is not set, history holds no earlier targets, or their version has been deleted.
            ConflictError: the generation is not the expected one.
        """

        def change(document: AliasDocument) -> AliasChange:
            current = _effective(document, alias)
            return self._restored(document, alias, None if current is None else current.parent)

        return self._update(change, expected_generation)

    def restore(self, alias: str, generation: int, expected_generation: int | None = None) -> AliasDocument:
        """Point `alias` at what it pointed at in an earlier generation, as a rollback over all steps since.

        Raises:
            NotFoundError: history does not hold that generation, or its version has been deleted.
            ConflictError: the generation of the document is not the expected one.
        """
        return self._update(lambda document: self._restored(document, alias, generation), expected_generation)

    def _restored(self, document: AliasDocument, alias: str, generation: int | None) -> AliasChange:
        previous = next((entry for entry in document.history if entry.generation == generation), None)
        if previous is None or previous.alias != alias:
            raise NotFoundError(f"{self._kind} '{self._name}': alias '{alias}' has nothing to roll back to")
        for target in previous.targets:
            self._repository.version(self._kind, self._name, target.version)
        kept = previous.generation if previous.restores is None else previous.restores
        return _change(document, alias, "rollback", previous.targets, previous.parent, kept)

    def _point(
        self,
        action: Literal["promote", "split"],
        alias: str,
        weights: Mapping[int, int],
        expected_generation: int | None,
        parent: int | None = None,
    ) -> AliasDocument:
        check_alias(alias)
        for version in weights:
            self._repository.version(self._kind, self._name, version)
        targets = tuple(Target(version=v, weight=w) for v, w in sorted(weights.items()))

        def change(document: AliasDocument) -> AliasChange | None:
            current = _effective(document, alias)
            if document.aliases.get(alias) == targets:
                return None  # no step: a rollback would come back to the same versions
            before = current.generation if current else None
            return _change(document, alias, action, targets, before if parent is None else parent)

        return self._update(change, expected_generation)

    def _update(
        self, change: Callable[[AliasDocument], AliasChange | None], expected_generation: int | None
    ) -> AliasDocument:
        def changed(document: AliasDocument) -> AliasDocument:
            if expected_generation is not None and document.generation != expected_generation:
                raise ConflictError(
                    f"{self._kind} '{self._name}': aliases are at generation {document.generation}, "
                    f"not {expected_generation}; read them again"
                )
            entry = change(document)
            if entry is None:
                return document
            return AliasDocument(
                generation=entry.generation,
                aliases={**document.aliases, entry.alias: entry.targets},
                history=(*document.history, entry)[-HISTORY_LENGTH:],
            )

        return self._document.update(changed, f"{self._kind} '{self._name}': aliases")


def choose(name: str, alias: str, targets: tuple[Target, ...], subject: str) -> int:
    """Return the version for `subject`: always the same one, and in proportion to the weights.

    The subject's bucket is sha256(`name/alias/subject`) mod 10,000. Versions share the buckets in ascending
    order, so that a changed weight moves the fewest subjects.

    Args:
        name: artifact name.
        alias: alias of it.
        targets: versions with their weights, at least one of them above 0.
        subject: whom or what the choice is for: a user, a session, a request.
    """
    bucket = int.from_bytes(hashlib.sha256(f"{name}/{alias}/{subject}".encode()).digest()) % BUCKETS
    ordered = sorted(targets, key=lambda target: target.version)
    total, reached = sum(target.weight for target in ordered), 0
    for target in ordered:
        reached += target.weight
        if bucket * total < reached * BUCKETS:
            return target.version
    raise AssertionError("the last target takes all remaining buckets")


def _effective(document: AliasDocument, alias: str) -> AliasChange | None:
    last = next((entry for entry in reversed(document.history) if entry.alias == alias), None)
    if last is None or last.restores is None:
        return last
    # What counts after a rollback is the generation it restored; it may have left the history since.
    return last.model_copy(update={"generation": last.restores})


def _change(
    document: AliasDocument,
    alias: str,
    action: Literal["promote", "split", "rollback"],
    targets: tuple[Target, ...],
    parent: int | None,
    restores: int | None = None,
) -> AliasChange:
    return AliasChange(
        generation=document.generation + 1,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        alias=alias,
        action=action,
        targets=targets,
        parent=parent,
        restores=restores,
    )
