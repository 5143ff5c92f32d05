"""Checks: whether an artifact version may answer here."""

from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.models.adapter_folder import check_adapter, check_plain
from llama_platform.models.base_model import BaseConfig
from llama_platform.models.lineage import check_lineage


def check_version(
    repository: ArtifactRepository, version: ArtifactVersion, base: BaseConfig, fingerprint: str, whole: bool
) -> None:
    """Check a version's manifest, and of an adapter also what it was made for.

    Args:
        repository: where it is.
        version: version to check.
        base: base model that is served.
        fingerprint: fingerprint of the prompts that are rendered here.
        whole: whether every byte is checked, too; it is then in this node's cache.

    Raises:
        IntegrityError: it is damaged, or must not answer here.
        StorageError: it cannot be read right now.
    """
    manifest = repository.manifest(version)
    if version.kind == "adapter":
        check_lineage(version, manifest, base, fingerprint)
    if whole:
        with repository.fetched(version) as folder:
            if version.kind == "adapter":
                check_plain(check_adapter(folder))
