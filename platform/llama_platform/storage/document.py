"""StoredDocument: one JSON document of a store that several writers change."""

from collections.abc import Callable
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from llama_platform.errors import ConflictError, IntegrityError, NotFoundError
from llama_platform.storage.base import ObjectStore, PreconditionFailedError

WRITE_TRIES = 20
DocumentT = TypeVar("DocumentT", bound=BaseModel)


class StoredDocument(Generic[DocumentT]):
    """Reads the document, and changes it by compare-and-swap."""

    def __init__(self, store: ObjectStore, key: str, model: type[DocumentT]) -> None:
        """Work on a key; nothing is read yet. What was never written is the model with its defaults."""
        self._store, self._key, self._model = store, key, model

    def read(self) -> DocumentT:
        """Return the present state.

        Raises:
            IntegrityError: the document is damaged.
        """
        return self._read()[0]

    def read_if_changed(self, etag: str | None) -> tuple[DocumentT, str] | None:
        """Return the present state and its etag, or None if it is still the one with this etag.

        Raises:
            NotFoundError: it was never written.
            IntegrityError: the document is damaged.
        """
        stored = self._store.read_if_changed(self._key, etag)
        return None if stored is None else (self._parse(stored.content), stored.etag)

    def update(self, change: Callable[[DocumentT], DocumentT], what: str) -> DocumentT:
        """Change the document, again where somebody else has done so meanwhile, and return it.

        Args:
            change: returns the next state of the present one; the same object where nothing is to change.
            what: names the content in the error, such as `the keys`.

        Raises:
            ConflictError: others kept changing it.
            IntegrityError: the document is damaged.
        """
        for _ in range(WRITE_TRIES):
            document, etag = self._read()
            updated = change(document)
            if updated is document:
                return document
            content = updated.model_dump_json(indent=1).encode()
            try:
                self._store.write(self._key, content, if_absent=etag is None, if_match=etag)
            except PreconditionFailedError:
                continue
            return updated
        raise ConflictError(f"{what} changed {WRITE_TRIES} times in a row; try again")

    def _read(self) -> tuple[DocumentT, str | None]:
        try:
            stored = self._store.read(self._key)
        except NotFoundError:
            return self._model(), None
        return self._parse(stored.content), stored.etag

    def _parse(self, content: bytes) -> DocumentT:
        try:
            return self._model.model_validate_json(content)
        except ValidationError as error:
            raise IntegrityError(f"{self._store.root}/{self._key}: damaged: {error}") from error
