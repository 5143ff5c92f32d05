"""References: `name`, `name@alias` or `name@3`, and the version that one means."""

from dataclasses import dataclass

from llama_platform.artifacts.aliases import Aliases, choose
from llama_platform.artifacts.manifest import ArtifactKind, check_name
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.errors import InputError, NotFoundError

BASE = "base"
"""Names the base without an adapter, where an adapter is asked for."""
PRODUCTION = "production"
"""Alias that a bare name means."""
VERSION_DIGITS = 9
"""No name has more versions than numbers of so many digits count."""


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """`name`, `name@alias` or `name@3`; either alias or version is None."""

    name: str
    alias: str | None
    version: int | None


def check_adapter_name(name: str) -> str:
    """Return `name` if an adapter may have it.

    Raises:
        InputError: it may not: requests could not name it.
    """
    if check_name(name) == BASE:
        raise InputError(f"name {name!r} is not allowed: in requests it names the base without an adapter")
    return name


def parse_ref(text: str) -> ArtifactRef:
    """Parse a reference; a bare name means `name@production`.

    Raises:
        InputError: the name, alias or version is not allowed.
    """
    name, at, target = text.partition("@")
    check_name(name)
    if not at:
        return ArtifactRef(name, PRODUCTION, None)
    if target.isascii() and target.isdigit():
        if len(target) > VERSION_DIGITS or int(target) < 1:
            raise InputError(
                f"reference {text[:100]!r}: versions are numbers from 1, of at most {VERSION_DIGITS} digits"
            )
        return ArtifactRef(name, None, int(target))
    return ArtifactRef(name, check_name(target, "alias"), None)


def resolve(repository: ArtifactRepository, kind: ArtifactKind, text: str, subject: str = "") -> ArtifactVersion:
    """Return the version that a reference means, read from the store.

    Args:
        repository: where the artifact is.
        kind: kind of the artifact.
        text: the reference.
        subject: a user, key or session; the same one always gets the same side of a split.

    Raises:
        InputError: `text` is no reference.
        NotFoundError: there is no such version or alias.
    """
    ref = parse_ref(text)
    if ref.version is not None:
        return repository.version(kind, ref.name, ref.version)
    alias = ref.alias or PRODUCTION
    targets = Aliases(repository, kind, ref.name).read().aliases.get(alias)
    if targets is None:
        raise NotFoundError(f"{kind} '{ref.name}' has no alias '{alias}'")
    return repository.version(kind, ref.name, choose(ref.name, alias, targets, subject))
