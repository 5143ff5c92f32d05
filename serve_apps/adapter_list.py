"""Adapter list: what `/model/info` shows of the adapters in the store."""

from typing import Any

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.repository import ArtifactRepository


def list_adapters(repository: ArtifactRepository) -> list[dict[str, Any]]:
    """Return every adapter with its aliases, and the versions that these name with their digests."""
    listed = []
    for name in repository.names("adapter"):
        aliases = Aliases(repository, "adapter", name).read().aliases
        pointing = {
            alias: [{"version": target.version, "weight": target.weight} for target in targets]
            for alias, targets in aliases.items()
        }
        numbers = sorted({target.version for targets in aliases.values() for target in targets})
        versions = [repository.version("adapter", name, number) for number in numbers]
        listed.append(
            {
                "name": name,
                "aliases": pointing,
                "versions": [{"version": v.version, "digest": v.digest, "created": v.created} for v in versions],
            }
        )
    return listed
