"""ArtifactRepository: commits, lists, resolves and fetches artifacts.

Layout below the store's root, one location per artifact name:

    objects/<digest>/<file>          content
    objects/<digest>/manifest.json
    versions/<n>.json                the commit record
    aliases.json                     see `aliases`
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from llama_platform.artifacts.cache import ArtifactCache
from llama_platform.artifacts.manifest import (
    MANIFEST_FILE,
    NAME,
    ArtifactKind,
    Manifest,
    Sha256,
    check_name,
    describe_folder,
    parse_manifest,
)
from llama_platform.errors import ConflictError, IntegrityError, NotFoundError
from llama_platform.storage.base import ObjectStore, PreconditionFailedError
from llama_platform.storage.open_store import open_store

log = logging.getLogger(__name__)

LOCATIONS: Mapping[ArtifactKind, str] = {
    "dataset": "datasets/{}",
    "adapter": "models/{}",
    "index": "indexes/{}",
    "checkpoint": "runs/{}/checkpoints",
}
COMMIT_TRIES = 20
_VERSION_KEY = re.compile(r"/versions/([1-9][0-9]*)\.json")


class CommitRecord(BaseModel):
    """Content of `versions/<n>.json`; its existence is what makes the version exist."""

    model_config = ConfigDict(extra="forbid")

    digest: Sha256
    created: str


@dataclass(frozen=True, slots=True)
class ArtifactVersion:
    """One committed version."""

    kind: ArtifactKind
    name: str
    version: int
    digest: str
    created: str
    """UTC, ISO 8601."""


class ArtifactRepository:
    """The artifacts of one store."""

    def __init__(self, store: ObjectStore, cache: ArtifactCache) -> None:
        """Use `store` for what is shared and `cache` for what this node has read."""
        self.store = store
        self._cache = cache

    def publish(
        self, kind: ArtifactKind, name: str, folder: Path, metadata: Mapping[str, Any], after: int | None = None
    ) -> ArtifactVersion:
        """Commit the files of `folder` as the next version of `name`, or return the version that has them.

        Args:
            kind: kind of the artifact.
            name: name of the artifact.
            folder: holds the files.
            metadata: what is known of their origin.
            after: the newest version that they were made with knowledge of; None where that does not matter.

        Raises:
            InputError: the name or a file is not allowed.
            StorageError: something could not be written; nothing is committed then.
            ConflictError: others kept taking the next version, or there is one beyond `after`.
        """
        manifest = describe_folder(kind, name, folder, metadata)
        digest, location = manifest.digest(), locate(kind, name)
        existing = self._find_digest(kind, name, digest)
        if existing is not None and after in (None, existing.version):
            self._repair(existing, manifest, folder)
            return existing  # with `after`, only as the newest: an older one would bring back what was changed since
        self._check_newest(kind, name, after)
        # Durable by order: a reader trusts only what a commit record names, and that is written last.
        for path, entry in manifest.files.items():
            self.store.upload(folder / path, f"{location}/objects/{digest}/{path}", entry.sha256)
        self.store.write(f"{location}/objects/{digest}/{MANIFEST_FILE}", manifest.to_bytes())
        return self._commit(kind, name, digest, after)

    def versions(self, kind: ArtifactKind, name: str) -> list[int]:
        """Return the committed version numbers, ascending; empty where the name is not known."""
        keys = self.store.list_keys(f"{locate(kind, name)}/versions/")
        return sorted(int(match[1]) for key in keys if (match := _VERSION_KEY.search(key)))

    def names(self, kind: ArtifactKind) -> list[str]:
        """Return the names that have at least one committed version."""
        return [name for name in self.folders(kind) if self.versions(kind, name)]

    def folders(self, kind: ArtifactKind) -> list[str]:
        """Return the names that something was written under, whether or not a version was ever committed."""
        folders = self.store.list_folders(LOCATIONS[kind].partition("{")[0])
        return [name for name in folders if NAME.fullmatch(name)]

    def version(self, kind: ArtifactKind, name: str, number: int) -> ArtifactVersion:
        """Return one version.

        Raises:
            NotFoundError: it was never committed.
            IntegrityError: its commit record is damaged.
        """
        key = f"{locate(kind, name)}/versions/{number}.json"
        try:
            record = CommitRecord.model_validate_json(self.store.read(key).content)
        except NotFoundError as error:
            known = ", ".join(map(str, self.versions(kind, name)[-10:])) or "none"
            raise NotFoundError(f"{kind} '{name}' has no version {number}; versions: {known}") from error
        except ValidationError as error:
            raise IntegrityError(f"{self.store.root}/{key}: damaged commit record") from error
        return ArtifactVersion(kind, name, number, record.digest, record.created)

    def latest(self, kind: ArtifactKind, name: str) -> ArtifactVersion:
        """Return the newest version.

        Raises:
            NotFoundError: there is none.
        """
        numbers = self.versions(kind, name)
        if not numbers:
            raise NotFoundError(f"{kind} '{name}' has no versions in {self.store.root}")
        return self.version(kind, name, numbers[-1])

    def manifest(self, version: ArtifactVersion) -> Manifest:
        """Return the verified manifest of a version.

        Raises:
            IntegrityError: it is missing or damaged.
        """
        key = f"{self._objects(version)}/{MANIFEST_FILE}"
        where = f"{self.store.root}/{key}"
        try:
            content = self.store.read(key).content
        except NotFoundError as error:
            raise IntegrityError(f"{where}: committed as version {version.version}, but missing") from error
        manifest = parse_manifest(content, version.digest, where)
        if (manifest.kind, manifest.name) != (version.kind, version.name):
            raise IntegrityError(f"{where}: belongs to {manifest.kind} '{manifest.name}'")
        return manifest

    @contextmanager
    def fetched(self, version: ArtifactVersion) -> Iterator[Path]:
        """Yield a local, verified, read-only folder with the version's files; it stays while the context lasts.

        Raises:
            IntegrityError: a file is missing or does not match its digest.
        """
        manifest = self.manifest(version)
        with self._cache.held(version.digest, manifest, partial(self.download, version)) as folder:
            yield folder

    def download(self, version: ArtifactVersion, file: str, path: Path) -> None:
        """Copy one file of a version to `path`, past the cache; the caller verifies its digest.

        Raises:
            IntegrityError: it is missing.
        """
        key = f"{self._objects(version)}/{file}"
        try:
            self.store.download(key, path)
        except NotFoundError as error:
            raise IntegrityError(f"{self.store.root}/{key}: named by the manifest, but missing") from error

    def fetch_file(self, version: ArtifactVersion, file: str) -> bytes:
        """Return the verified content of one small file of a version.

        Raises:
            IntegrityError: it is missing or does not match its digest.
        """
        entry, where = self.manifest(version).files.get(file), f"{self.uri(version)}/{file}"
        if entry is None:
            raise IntegrityError(f"{where}: the manifest names no such file")
        try:
            content = self.store.read(f"{self._objects(version)}/{file}").content
        except NotFoundError as error:
            raise IntegrityError(f"{where}: named by the manifest, but missing") from error
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise IntegrityError(f"{where}: does not match its sha256 {entry.sha256}; the stored artifact is damaged")
        return content

    def delete(self, version: ArtifactVersion, needed: Callable[[], bool] = lambda: False) -> bool:
        """Delete a version: its commit record first, so that nobody trusts what is half gone, then what it alone held.

        Args:
            version: which one.
            needed: asked when the record has gone, so that nobody can begin to need it any more; where it returns True,
                the record is put back and the version stays.

        Returns:
            Whether it went.

        Raises:
            StorageError: the store refused; what is left is no version any more.
        """
        key = f"{locate(version.kind, version.name)}/versions/{version.version}.json"
        record = None
        with suppress(NotFoundError):  # somebody else has begun to delete it
            record = self.store.read(key).content
        self.store.delete(key)
        if record is not None and needed():
            self.store.write(key, record, if_absent=True)
            return False
        if self._find_digest(version.kind, version.name, version.digest) is None:
            for file in list(self.store.list_keys(f"{self._objects(version)}/")):
                self.store.delete(file)
        return True

    def uri(self, version: ArtifactVersion) -> str:
        """Return where the version's files lie in the store."""
        return f"{self.store.root}/{self._objects(version)}"

    def _objects(self, version: ArtifactVersion) -> str:
        return f"{locate(version.kind, version.name)}/objects/{version.digest}"

    def _find_digest(self, kind: ArtifactKind, name: str, digest: str) -> ArtifactVersion | None:
        location = locate(kind, name)
        try:
            self.store.read(f"{location}/objects/{digest}/{MANIFEST_FILE}")
        except NotFoundError:
            return None
        for number in reversed(self.versions(kind, name)):
            try:
                version = self.version(kind, name, number)
            except IntegrityError as error:  # one damaged record says nothing of the others
                log.warning("a version is passed over", extra={"reason": str(error)})
                continue
            if version.digest == digest:
                return version
        return None

    def _repair(self, version: ArtifactVersion, manifest: Manifest, folder: Path) -> None:
        """Write again what the store holds damaged, or not at all, of a version that has the files of `folder`."""
        objects = self._objects(version)
        damaged = [
            path
            for path, entry in manifest.files.items()
            if not self.store.matches(folder / path, f"{objects}/{path}", entry.sha256)
        ]
        for path in damaged:
            self.store.upload(folder / path, f"{objects}/{path}", manifest.files[path].sha256)
        if damaged or self.store.read(f"{objects}/{MANIFEST_FILE}").content != manifest.to_bytes():
            self.store.write(f"{objects}/{MANIFEST_FILE}", manifest.to_bytes())
            log.warning("a damaged version was repaired", extra={"uri": self.uri(version), "files": damaged})

    def _check_newest(self, kind: ArtifactKind, name: str, after: int | None) -> None:
        newest = max(self.versions(kind, name), default=0)
        if after is not None and newest > after:
            raise ConflictError(f"{kind} '{name}' has got version {newest} meanwhile; start again from that")

    def _commit(self, kind: ArtifactKind, name: str, digest: str, after: int | None) -> ArtifactVersion:
        for _ in range(COMMIT_TRIES):
            self._check_newest(kind, name, after)
            number = max(self.versions(kind, name), default=0) + 1
            created = datetime.now(UTC).isoformat(timespec="milliseconds")
            record = json.dumps({"digest": digest, "created": created}).encode()
            try:
                self.store.write(f"{locate(kind, name)}/versions/{number}.json", record, if_absent=True)
            except PreconditionFailedError:
                continue
            log.info("artifact committed", extra={"kind": kind, "artifact": name, "version": number})
            return ArtifactVersion(kind, name, number, digest, created)
        raise ConflictError(
            f"{kind} '{name}': {COMMIT_TRIES} times in a row somebody else took the next version; try again"
        )


def locate(kind: ArtifactKind, name: str) -> str:
    """Return the key prefix of an artifact name."""
    return LOCATIONS[kind].format(check_name(name))


def open_repository(uri: str, cache_folder: Path, cache_bytes: int = 50 * 2**30) -> ArtifactRepository:
    """Return the repository at `uri`, with this node's cache.

    Raises:
        ConfigError: the URI is not one of a store.
    """
    return ArtifactRepository(open_store(uri), ArtifactCache(cache_folder, cache_bytes))
