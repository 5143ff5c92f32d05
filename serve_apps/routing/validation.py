"""Checks: whether an artifact version may answer here."""

from llama_platform.artifacts.manifest import Manifest
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.errors import IntegrityError
from llama_platform.models.adapter_folder import check_adapter, check_plain
from llama_platform.models.base_model import BaseConfig


def check_lineage(version: ArtifactVersion, manifest: Manifest, base: BaseConfig, fingerprint: str) -> None:
    """Check that an adapter was made for this base and trained with this prompt.

    An adapter from elsewhere may not tell the fingerprint of its prompts: then the style that was claimed at its import
    has to be the server's.

    Args:
        version: the adapter.
        manifest: its manifest.
        base: the server's base.
        fingerprint: prompt fingerprint of the server's base.

    Raises:
        IntegrityError: it was made for another, or nothing tells for which prompt.
    """
    label, facts = f"adapter {version.name}@{version.version}", manifest.metadata
    taught = facts.get("prompt_fingerprint")
    if taught is None and facts.get("prompt_style") != base.prompt_style:
        raise IntegrityError(
            f"{label}: nothing tells that it was trained with prompts of style {base.prompt_style}, which this server "
            f"renders (recorded: {facts.get('prompt_style')}); import it again with --prompt-style"
        )
    if taught is not None and taught != fingerprint:
        raise IntegrityError(
            f"{label} was trained with another prompt (fingerprint {str(taught)[:12]}) than this server renders "
            f"({fingerprint[:12]}): check base and prompt style"
        )
    made_for = facts.get("base")
    if isinstance(made_for, str) and _is_name(made_for) and _is_name(base.model) and not _same(made_for, base.model):
        raise IntegrityError(f"{label} was made for the base {made_for}; this server serves {base.model}")


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


def _is_name(model: str) -> bool:
    """Tell names of models, such as on a hub, from folders, which may be called anything."""
    return bool(model) and not model.startswith((".", "/", "~")) and model.count("/") <= 1


def _same(one: str, other: str) -> bool:
    return one.rpartition("/")[2].lower() == other.rpartition("/")[2].lower()
