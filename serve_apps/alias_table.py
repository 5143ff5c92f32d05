"""Alias table: which version a reference means, remembered for a short while."""

import asyncio
import logging
import time

from llama_platform.artifacts.aliases import AliasDocument, Aliases, choose
from llama_platform.artifacts.manifest import Kind, Manifest
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion, parse_ref
from llama_platform.errors import NotFoundError, StorageError

log = logging.getLogger(__name__)
PATIENCE_S = 1.0


class AliasTable:
    """Resolves references of one kind of artifact without asking the store for every request."""

    def __init__(self, repository: ArtifactRepository, kind: Kind, ttl_s: float) -> None:
        """Start empty.

        Args:
            repository: where versions and aliases are read.
            kind: of the artifacts.
            ttl_s: how long an alias is remembered.
        """
        self._repository, self._kind, self._ttl_s = repository, kind, ttl_s
        self._documents: dict[str, tuple[float, AliasDocument]] = {}
        self._readings: dict[str, asyncio.Task[AliasDocument]] = {}
        self._versions: dict[tuple[str, int], tuple[ArtifactVersion, Manifest]] = {}

    async def resolve(self, text: str, subject: str) -> tuple[ArtifactVersion, Manifest]:
        """Return the version that `text` means for `subject`, and its manifest.

        Raises:
            InputError: `text` is no reference.
            NotFoundError: there is no such name, alias or version.
        """
        ref = parse_ref(text)
        number = ref.version
        if number is None:
            alias = ref.alias or "production"
            targets = (await self._document(ref.name)).aliases.get(alias)
            if targets is None:
                raise NotFoundError(f"{self._kind} '{ref.name}' has no alias '{alias}'")
            number = choose(ref.name, alias, targets, subject)
        if (ref.name, number) not in self._versions:
            self._versions[ref.name, number] = await asyncio.to_thread(self._read_version, ref.name, number)
        return self._versions[ref.name, number]

    def _read_version(self, name: str, number: int) -> tuple[ArtifactVersion, Manifest]:
        version = self._repository.version(self._kind, name, number)
        return version, self._repository.manifest(version)

    async def _document(self, name: str) -> AliasDocument:
        read_at, document = self._documents.get(name, (0.0, None))
        if document is not None and time.monotonic() - read_at <= self._ttl_s:
            return document
        # One reading at a time, whoever asks; and nobody who has an older answer waits long for it.
        reading = self._readings.get(name)
        if reading is None:
            reading = self._readings[name] = asyncio.create_task(self._read_document(name))
            reading.add_done_callback(lambda _: self._readings.pop(name, None))
        try:
            return await asyncio.wait_for(asyncio.shield(reading), None if document is None else PATIENCE_S)
        except (StorageError, TimeoutError):
            if document is None:
                raise
            # What was promoted last keeps answering while the store is away.
            log.warning("aliases cannot be read; the last known ones stay", extra={"artifact": name})
            self._documents[name] = (time.monotonic(), document)
            return document

    async def _read_document(self, name: str) -> AliasDocument:
        document = await asyncio.to_thread(Aliases(self._repository, self._kind, name).read)
        if document.generation:  # names that do not exist are not worth remembering
            self._documents[name] = (time.monotonic(), document)
        return document
