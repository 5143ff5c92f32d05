"""Lineage: whether an adapter or a dataset was made for the base and the prompts that are used here."""

from pathlib import Path

from llama_platform.artifacts.manifest import Manifest
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import InputError, IntegrityError
from llama_platform.models.base_model import BaseConfig
from llama_platform.models.base_weights import are_different, weights_identity


def check_lineage(version: ArtifactVersion, manifest: Manifest, base: BaseConfig, fingerprint: str) -> None:
    """Check that an adapter was made for this base and trained with this prompt.

    An adapter from elsewhere may not tell the fingerprint of its prompts: then the style that was claimed at its import
    has to be the base's.

    Args:
        version: the adapter.
        manifest: its manifest.
        base: the base that is used.
        fingerprint: prompt fingerprint of that base.

    Raises:
        IntegrityError: it was made for another, or nothing tells for which prompt.
    """
    label, facts = f"adapter {version.name}@{version.version}", manifest.metadata
    taught = facts.get("prompt_fingerprint")
    if taught is None and facts.get("prompt_style") != base.prompt_style:
        raise IntegrityError(
            f"{label}: nothing tells that it was trained with prompts of style {base.prompt_style}, which are "
            f"rendered here (recorded: {facts.get('prompt_style')}); import it again with --prompt-style"
        )
    if taught is not None and taught != fingerprint:
        raise IntegrityError(
            f"{label} was trained with another prompt (fingerprint {str(taught)[:12]}) than is rendered here "
            f"({fingerprint[:12]}): check base.model and base.prompt_style"
        )
    made_for = facts.get("base")
    if isinstance(made_for, str) and _is_name(made_for) and _is_name(base.model) and not _same(made_for, base.model):
        raise IntegrityError(f"{label} was made for the base {made_for}; base.model is {base.model}")
    made_of, folder = facts.get("base_weights"), Path(base.location())
    if isinstance(made_of, str) and folder.is_dir() and are_different(made_of, weights_identity(folder)):
        raise IntegrityError(
            f"{label} was made for a base of the same shape with other weights ({made_for}) than those of "
            f"base.model {base.model}"
        )


def check_dataset(version: ArtifactVersion, manifest: Manifest, fingerprint: str) -> None:
    """Check that a dataset's tokens were counted, and its chats cut, with the prompts that are used here.

    Args:
        version: the dataset.
        manifest: its manifest.
        fingerprint: prompt fingerprint of the base that is used.

    Raises:
        InputError: it was prepared for others.
    """
    prepared = manifest.metadata.get("prompt_fingerprint")
    if prepared is not None and prepared != fingerprint:
        raise InputError(
            f"dataset {version.name}@{version.version} was prepared with another prompt (fingerprint "
            f"{str(prepared)[:12]}) than is rendered here ({fingerprint[:12]}): run jobs.prepare_data again with this "
            "base, or change base.model or base.prompt_style"
        )


def _is_name(model: str) -> bool:
    """Tell names of models, such as on a hub, from folders, which may be called anything."""
    return bool(model) and not model.startswith((".", "/", "~")) and model.count("/") <= 1


def _same(one: str, other: str) -> bool:
    return one.rpartition("/")[2].lower() == other.rpartition("/")[2].lower()
