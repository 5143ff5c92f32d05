"""Manifest: the files of an artifact with their digests, and what is known of its origin.

The artifact's digest is the sha256 of the manifest's canonical JSON, so it covers every byte of content.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from llama_platform.errors import InputError, IntegrityError
from llama_platform.storage.base import check_key
from llama_platform.storage.regular_files import file_sha256, list_files

ArtifactKind = Literal["dataset", "adapter", "index", "checkpoint"]
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
MANIFEST_FILE = "manifest.json"
# Formats that run code when they are read.
REFUSED_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz"})

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Sha256
    bytes: int


class Manifest(BaseModel):
    """What an artifact consists of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ArtifactKind
    name: str
    files: dict[str, FileEntry]
    metadata: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Return canonical JSON: sorted keys, no spaces, UTF-8."""
        return json.dumps(
            self.model_dump(), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()

    def digest(self) -> str:
        """Return the artifact's digest, sha256 in hex."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def check_name(name: str, what: str = "name") -> str:
    """Return `name` if it may become part of a key.

    Raises:
        InputError: it does not match `[a-z0-9][a-z0-9._-]{0,62}`.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            f"{what} {name!r} is not allowed: 1 to 63 of a-z, 0-9, '.', '_' and '-', starting with a letter or digit"
        )
    return name


def describe_folder(kind: ArtifactKind, name: str, folder: Path, metadata: Mapping[str, Any]) -> Manifest:
    """Return the manifest of the files in `folder`.

    Args:
        kind: kind of the artifact.
        name: name of the artifact.
        folder: holds the artifact's files, at any depth.
        metadata: JSON values that become part of the manifest.

    Raises:
        InputError: the name is not allowed, the folder is empty, a file's format could run code, or something in
            it is a link or no file.
    """
    check_name(name)
    files = {}
    for path, problem in list_files(folder):
        if problem is not None:
            raise InputError(f"{path}: {problem}")
        key = check_key(path.relative_to(folder).as_posix())
        if key == MANIFEST_FILE:
            raise InputError(f"{path}: the name {MANIFEST_FILE} is the platform's own; leave the file out")
        if path.suffix.lower() in REFUSED_SUFFIXES:
            raise InputError(f"{path}: {path.suffix} files can run code when read; publish safetensors and JSON")
        files[key] = FileEntry(sha256=file_sha256(path), bytes=path.stat().st_size)
    if not files:
        raise InputError(f"{folder}: nothing to publish: no files")
    try:
        # Through JSON, so that the digest is the same after reading back (tuples become lists, keys texts).
        manifest = Manifest(
            kind=kind, name=name, files=files, metadata=json.loads(json.dumps(metadata, allow_nan=False))
        )
        manifest.to_bytes()
    except ValueError as error:  # NaN, or half a character
        raise InputError(f"{folder}: what is recorded with it is no JSON: {error}") from error
    return manifest


def parse_manifest(content: bytes, digest: str, where: str) -> Manifest:
    """Return the manifest in `content`.

    Raises:
        IntegrityError: the content does not have this digest, or is no manifest.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise IntegrityError(f"{where}: manifest has sha256 {found}, the commit record says {digest}")
    try:
        manifest = Manifest.model_validate_json(content)
        for key in manifest.files:
            check_key(key)
    except (ValidationError, InputError) as error:
        raise IntegrityError(f"{where}: not a manifest: {error}") from error
    return manifest
