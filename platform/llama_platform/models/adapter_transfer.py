"""Adapters that come from elsewhere, or go there, as plain PEFT folders.

What an imported folder says of its origin is somebody's claim: the platform's own facts, such as the run and the
dataset of an adapter, are kept apart from it.
"""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from llama_platform.artifacts.manifest import REFUSED_SUFFIXES
from llama_platform.artifacts.refs import check_adapter_name
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.errors import InputError, IntegrityError, StorageError
from llama_platform.models.adapter_folder import (
    CONFIG_FILE,
    FACTS_FILE,
    WEIGHTS_FILE,
    check_adapter,
    check_plain,
    read_json,
)
from llama_platform.models.prompt import PromptStyle
from llama_platform.storage.open_store import open_store
from llama_platform.storage.regular_files import list_files

CHECKED_CLAIMS = ("base", "base_revision", "base_weights", "prompt_style", "prompt_fingerprint")
"""Claims that a server compares with what it serves."""


def import_adapter(
    repository: ArtifactRepository, name: str, source: str, prompt_style: PromptStyle | None = None
) -> ArtifactVersion:
    """Publish a PEFT folder made elsewhere; pickled side files, such as training_args.bin, are left behind.

    Args:
        repository: where it is committed.
        name: adapter that gets a new version.
        source: a folder, or the URI of one, such as `s3://bucket/folder`.
        prompt_style: form of the prompts that the adapter was trained with; needed where the folder does not tell the
            fingerprint of its prompts, and recorded as the caller's claim.

    Raises:
        IntegrityError: the folder holds no usable adapter.
        InputError: it is no folder or cannot be read, the name is not allowed, or nothing tells the form of the
            prompts.
        StorageError: the version cannot be written.
    """
    check_adapter_name(name)
    if "://" in source:
        with TemporaryDirectory() as scratch:
            _download(source, Path(scratch))
            return _import_folder(repository, name, Path(scratch), prompt_style)
    if not Path(source).is_dir():
        raise InputError(f"{source}: no such folder; give the folder with {CONFIG_FILE} and {WEIGHTS_FILE}")
    return _import_folder(repository, name, Path(source).resolve(), prompt_style)


def _download(source: str, folder: Path) -> None:
    try:
        store = open_store(source)
        for key in store.list_keys(""):
            if key and "/" not in key and not key.endswith(tuple(REFUSED_SUFFIXES)):
                store.download(key, folder / key)
    except StorageError as error:  # whoever imports has named it: our own store is another one
        raise InputError(f"source: {error}") from error


def export_adapter(repository: ArtifactRepository, version: ArtifactVersion, destination: str) -> str:
    """Write a version as a plain PEFT folder that other tools open, and return the folder.

    Args:
        repository: where the version is.
        version: the version to write.
        destination: a folder, or the URI of one, such as `s3://bucket/folder`.

    Raises:
        InputError: the folder exists and is not empty.
        StorageError: it cannot be written.
    """
    if "://" in destination:
        store = open_store(destination)
        if any(key for key in store.list_keys("")):  # consoles make an empty object of a folder
            raise InputError(f"{destination}: exists and is not empty; choose another folder")
        with repository.fetched(version) as source:
            for path, entry in repository.manifest(version).files.items():
                store.upload(source / path, path, entry.sha256)
        return destination
    folder = Path(destination)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists and is not empty; choose another folder")
    with repository.fetched(version) as source:
        shutil.copytree(source, folder, dirs_exist_ok=True)
    return destination


def _import_folder(
    repository: ArtifactRepository, name: str, folder: Path, prompt_style: PromptStyle | None
) -> ArtifactVersion:
    config = check_adapter(folder)
    check_plain(config)
    said = read_json(folder / FACTS_FILE) if (folder / FACTS_FILE).exists() else {}
    said.setdefault("base", config.get("base_model_name_or_path"))
    facts = _claims(said, prompt_style, folder)
    with TemporaryDirectory() as scratch:
        clean = Path(scratch) / "adapter"
        _copy(folder, clean)
        # Not the folder's own: it may say anything of runs and data sets of this platform.
        (clean / FACTS_FILE).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return repository.publish("adapter", name, clean, facts)


def _claims(said: dict[str, Any], prompt_style: PromptStyle | None, folder: Path) -> dict[str, Any]:
    """Return what is recorded with an imported adapter."""
    for key in CHECKED_CLAIMS:
        if not isinstance(said.get(key), str | None):
            raise IntegrityError(f"{folder / FACTS_FILE}: {key} is {said[key]!r:.80}, not a text")
    known = {key: said[key] for key in CHECKED_CLAIMS if said.get(key) is not None}
    claimed = {key: value for key, value in said.items() if key not in (*CHECKED_CLAIMS, "imported", "claimed")}
    if "prompt_fingerprint" not in known:
        prompt_style = prompt_style or next((s for s in get_args(PromptStyle) if s == known.get("prompt_style")), None)
        if prompt_style is None:
            raise InputError(
                f"{folder}: nothing tells with which prompts this adapter was trained; say it with --prompt-style "
                "llama2 or --prompt-style plain (over HTTP: prompt_style)"
            )
        claimed["prompt_style"] = known["prompt_style"] = prompt_style
    elif prompt_style is not None and known.get("prompt_style", prompt_style) != prompt_style:
        raise InputError(f"{folder}: was trained with prompts of style {known['prompt_style']}, not {prompt_style}")
    return {**known, "imported": True, "claimed": claimed}


def _copy(folder: Path, target: Path) -> None:
    """Copy what belongs to an adapter: no pickles, no checkpoints of a trainer, nothing hidden."""
    for path, problem in list_files(folder):
        relative = path.relative_to(folder)
        left_out = any(part.startswith((".", "checkpoint-")) for part in relative.parts)
        if left_out or path.suffix.lower() in REFUSED_SUFFIXES:
            continue
        if problem is not None:
            raise InputError(f"{path}: {problem}")
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / relative, follow_symlinks=False)
