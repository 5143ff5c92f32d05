"""Changes: what administrators want of an index, waiting in the store for the job that does it.

A change is JSON beside the documents that come with it, so that neither ids nor contents pass through a command line.
"""

import hashlib
import tempfile
import unicodedata
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from llama_platform.artifacts.aliases import check_alias
from llama_platform.artifacts.manifest import check_name
from llama_platform.artifacts.repository import ArtifactRepository
from llama_platform.config import Config
from llama_platform.errors import InputError, IntegrityError
from llama_platform.storage.base import check_key
from rag.documents.document import check_document_id
from rag.documents.reader import is_readable

QUEUED = "queued: waiting for"
"""How the line begins that says which resources a job waits for."""
_FILE = "change.json"


class IndexChange(Config):
    """What is to become of an index, beside the documents that are added or replaced."""

    uploaded: Annotated[int, Field(ge=0)] = 0
    """Documents that come with it."""
    delete: tuple[str, ...] = ()
    """Documents that are left out."""
    promote: str | None = None
    """Alias that is pointed at the new version."""


def check_upload(name: str) -> str:
    """Return the id of a document that may be uploaded under a file name.

    Raises:
        InputError: it cannot be an id, or its format is not read.
    """
    name = unicodedata.normalize("NFC", name)
    if not is_readable(check_document_id(name)):
        raise InputError(f"files: '{name}' is of no format that is read; see the documentation of indexes")
    return name


def store_change(
    repository: ArtifactRepository,
    index: str,
    files: Sequence[tuple[str, bytes]] = (),
    delete: Sequence[str] = (),
    promote: str | None = None,
) -> str:
    """Write a change into the store, and return its id.

    Args:
        repository: whose store it waits in.
        index: name of the index.
        files: ids and contents of documents.
        delete: ids of documents.
        promote: an alias.

    Raises:
        InputError: a name is not allowed, or two files have the same.
        StorageError: the store refuses.
    """
    if promote is not None:
        check_alias(promote)
    names = [check_upload(name) for name, _ in files]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"files: '{twice[0]}' is there twice")
    change_id = uuid.uuid4().hex
    keys = [check_key(f"{_folder(index, change_id)}/files/{name}") for name in names]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "file")
        for key, (_, content) in zip(keys, files, strict=True):
            path.write_bytes(content)
            repository.store.upload(path, key, hashlib.sha256(content).hexdigest())
    change = IndexChange(uploaded=len(files), delete=tuple(delete), promote=promote)
    repository.store.write(f"{_folder(index, change_id)}/{_FILE}", change.model_dump_json().encode())
    return change_id


def read_change(repository: ArtifactRepository, index: str, change_id: str) -> tuple[IndexChange, tuple[str, ...]]:
    """Return a change, and the sources that its documents are.

    Raises:
        NotFoundError: there is none, or it has been done.
        IntegrityError: it is damaged.
    """
    folder = _folder(index, change_id)
    try:
        change = IndexChange.model_validate_json(repository.store.read(f"{folder}/{_FILE}").content)
    except ValidationError as error:
        raise IntegrityError(f"{repository.store.root}/{folder}: damaged change") from error
    return change, (f"{repository.store.root}/{folder}/files",) if change.uploaded else ()


def waiting_changes(repository: ArtifactRepository) -> list[tuple[str, str]]:
    """Return (index, id) of the changes that wait in the store and are whole.

    Raises:
        StorageError: the store cannot be read.
    """
    keys = (key.split("/") for key in repository.store.list_keys("changes/"))
    return sorted((parts[1], parts[2]) for parts in keys if len(parts) == 4 and parts[3] == _FILE)


def discard_change(repository: ArtifactRepository, index: str, change_id: str) -> None:
    """Delete a change that has been done, or cannot be."""
    for key in list(repository.store.list_keys(f"{_folder(index, change_id)}/")):
        repository.store.delete(key)


def _folder(index: str, change_id: str) -> str:
    return f"changes/{check_name(index)}/{check_name(change_id, 'change')}"
