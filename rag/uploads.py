"""Uploads: documents that wait in the store for the job that puts them into an index."""

import hashlib
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from llama_platform.artifacts.manifest import check_name
from llama_platform.artifacts.repository import ArtifactRepository
from llama_platform.errors import InputError
from llama_platform.storage.base import check_key
from rag.documents.document import check_document_id
from rag.documents.formats import READERS
from rag.documents.rows import ROW_SUFFIXES


def check_upload(name: str) -> str:
    """Return the id of a document that may be uploaded under a file name.

    Raises:
        InputError: it cannot be an id, or its format is not read.
    """
    suffix = Path(check_document_id(name)).suffix.lower()
    if suffix not in READERS and suffix not in ROW_SUFFIXES:
        known = ", ".join(sorted({*READERS, *ROW_SUFFIXES}))
        raise InputError(f"files: '{name}' is of no format that is read; these are {known}")
    return name


def store_upload(repository: ArtifactRepository, index: str, files: Sequence[tuple[str, bytes]]) -> str:
    """Write documents into the store, and return the upload's id.

    Args:
        repository: whose store they wait in.
        index: that they are for.
        files: ids and contents.

    Raises:
        InputError: an id is not allowed.
        StorageError: the store refuses.
    """
    upload = uuid.uuid4().hex
    keys = [check_key(f"{_folder(index, upload)}/{name}") for name, _ in files]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "file")
        for key, (_, content) in zip(keys, files, strict=True):
            path.write_bytes(content)
            repository.store.upload(path, key, hashlib.sha256(content).hexdigest())
    return upload


def upload_source(repository: ArtifactRepository, index: str, upload: str) -> str:
    """Return where the documents of an upload lie, as a source of an index."""
    return f"{repository.store.root}/{_folder(index, upload)}"


def discard_upload(repository: ArtifactRepository, index: str, upload: str) -> None:
    """Delete an upload, once its documents are in a version."""
    for key in list(repository.store.list_keys(f"{_folder(index, upload)}/")):
        repository.store.delete(key)


def _folder(index: str, upload: str) -> str:
    return f"uploads/{check_name(index)}/{check_name(upload, 'upload')}"
