"""Adapter folders: the plain PEFT layout on disk, checked before it is published, served or exported.

Reads safetensors headers and JSON only; nothing here loads a model.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from llama_platform.artifacts.manifest import REFUSED_SUFFIXES, check_name
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.errors import InputError, IntegrityError
from llama_platform.storage.open_store import open_store

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
FACTS_FILE = "training_args.json"
"""What the platform knows of the adapter's origin: base, prompt style and fingerprint, dataset, metrics."""


# Options of LoRA under which an adapter is more than two matrices per layer, and the values that leave them off.
_PLAIN_OPTIONS: Mapping[str, tuple[Any, ...]] = {
    "use_dora": (None, False),
    "modules_to_save": (None, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "lora_bias": (None, False),
    "bias": (None, "none"),
    "init_lora_weights": (None, True, False, "gaussian"),
}


def check_adapter(folder: Path) -> dict[str, Any]:
    """Return the adapter's configuration if the folder holds a usable LoRA adapter.

    Raises:
        IntegrityError: files are missing, or weights are empty, all zero or not finite.
    """
    config = _read_json(folder / CONFIG_FILE)
    if config.get("peft_type") != "LORA":
        raise IntegrityError(f"{folder}: peft_type is {config.get('peft_type')!r}; only LORA is supported")
    if config.get("auto_mapping") and "custom" in str(config["auto_mapping"]):
        raise IntegrityError(f"{folder}: the adapter asks for custom code, which is never run")
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise IntegrityError(f"{folder}: {WEIGHTS_FILE} is missing (pickled weights are not read)")
    try:
        with safe_open(weights, framework="pt") as tensors:
            names = list(tensors.keys())
            learned = False
            for name in names:
                values = tensors.get_tensor(name).float().numpy()
                _check_tensor(values, f"{weights}: {name}")
                learned = learned or ("lora_B" in name and bool(np.any(values)))
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"{weights}: not a safetensors file: {error}") from error
    if not any("lora_A" in name for name in names) or not learned:
        raise IntegrityError(f"{weights}: every lora_B is zero or absent: this adapter changes nothing")
    return config


def check_plain(config: Mapping[str, Any]) -> None:
    """Check that an adapter is two matrices per layer and nothing else, which is what can be served.

    Raises:
        IntegrityError: it uses another variant of LoRA.
    """
    for option, plain in _PLAIN_OPTIONS.items():
        if config.get(option) not in plain:
            raise IntegrityError(f"the adapter sets {option} to {config[option]!r}, which is not supported")


def import_adapter(repository: ArtifactRepository, name: str, source: str) -> ArtifactVersion:
    """Publish a PEFT folder made elsewhere; pickled side files, such as training_args.bin, are left behind.

    Args:
        repository: where it is committed.
        name: of the adapter.
        source: a folder, or the URI of one, such as `s3://bucket/folder`.

    Raises:
        IntegrityError: the folder holds no usable adapter.
        InputError: it is no folder, or the name is not allowed.
        StorageError: the URI cannot be read.
    """
    check_name(name)
    if "://" in source:
        store = open_store(source)
        with TemporaryDirectory() as scratch:
            for key in store.list_keys(""):
                if "/" not in key and not key.endswith(tuple(REFUSED_SUFFIXES)):
                    store.download(key, Path(scratch) / key)
            return _import_folder(repository, name, Path(scratch))
    if not Path(source).is_dir():
        raise InputError(f"{source}: no such folder; give the folder with {CONFIG_FILE} and {WEIGHTS_FILE}")
    return _import_folder(repository, name, Path(source))


def _import_folder(repository: ArtifactRepository, name: str, folder: Path) -> ArtifactVersion:
    config = check_adapter(folder)
    facts_path = folder / FACTS_FILE
    facts = _read_json(facts_path) if facts_path.is_file() else {}
    facts.setdefault("base", config.get("base_model_name_or_path"))
    refused = shutil.ignore_patterns(*(f"*{suffix}" for suffix in REFUSED_SUFFIXES), "checkpoint-*", ".*")
    with TemporaryDirectory() as scratch:
        clean = Path(scratch) / "adapter"
        shutil.copytree(folder, clean, ignore=refused)
        return repository.publish("adapter", name, clean, {"imported": True, **facts})


def export_adapter(repository: ArtifactRepository, version: ArtifactVersion, destination: str) -> str:
    """Write a version as a plain PEFT folder that other tools open, and return the folder.

    Args:
        repository: where the version is.
        version: to be written.
        destination: a folder, or the URI of one, such as `s3://bucket/folder`.

    Raises:
        InputError: the folder exists and is not empty.
        StorageError: it cannot be written.
    """
    if "://" in destination:
        store, source = open_store(destination), repository.fetch(version)
        if next(iter(store.list_keys("")), None) is not None:
            raise InputError(f"{destination}: exists and is not empty; choose another folder")
        for path, entry in repository.manifest(version).files.items():
            store.upload(source / path, path, entry.sha256)
        return destination
    folder = Path(destination)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists and is not empty; choose another folder")
    shutil.copytree(repository.fetch(version), folder, dirs_exist_ok=True)
    return destination


def _check_tensor(values: "np.ndarray[Any, Any]", where: str) -> None:
    if values.size == 0:
        raise IntegrityError(f"{where}: tensor is empty (shape {values.shape})")
    if not np.isfinite(values).all():
        raise IntegrityError(f"{where}: holds values that are not finite")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise IntegrityError(f"{path}: missing") from error
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise IntegrityError(f"{path}: expected a JSON object")
    return values
