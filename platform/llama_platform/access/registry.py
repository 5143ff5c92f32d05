"""KeyRegistry: the keys in the store, changed by compare-and-swap as aliases are."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from llama_platform.access.keys import AccessDocument, ApiKey, Patterns, Scope, Secret, new_secret
from llama_platform.access.quotas import Quotas
from llama_platform.errors import ConflictError, InputError, NotFoundError
from llama_platform.storage.base import ObjectStore
from llama_platform.storage.document import StoredDocument

KEYS_FILE = "access/keys.json"


class KeyRegistry:
    """Creates, lists, rotates and revokes keys."""

    def __init__(self, store: ObjectStore) -> None:
        """Work on the store's `access/keys.json`; nothing is read yet."""
        self._document = StoredDocument(store, KEYS_FILE, AccessDocument)

    def read(self) -> AccessDocument:
        """Return the present state; empty where no key was ever made.

        Raises:
            IntegrityError: the document is damaged.
        """
        return self._document.read()

    def read_if_changed(self, etag: str | None) -> tuple[AccessDocument, str] | None:
        """Return the present state and its etag, or None if it is still the one with this etag.

        Raises:
            NotFoundError: no key was ever made.
            IntegrityError: the document is damaged.
        """
        return self._document.read_if_changed(etag)

    def create(
        self,
        name: str,
        tenant: str,
        scopes: tuple[Scope, ...],
        adapters: Patterns = (),
        indexes: Patterns = (),
        expires: datetime | None = None,
        limits: Quotas | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key, and return what is kept of it and the key itself, which nobody can read again.

        Args:
            name: says whose it is.
            tenant: whom its use is counted for.
            scopes: what it may do.
            adapters: names of adapters that it sees; empty for those of its tenant.
            indexes: names of indexes that it sees; empty for those of its tenant.
            expires: when it stops being taken, with its zone; None for never.
            limits: how much it may use; None for what its tenant gives each key.

        Raises:
            InputError: a name is not allowed, or there are no scopes.
            ConflictError: a key of the tenant has the name, or others kept changing the keys.
        """
        secret, digest = new_secret()
        try:
            key = ApiKey(
                id=secrets.token_hex(6), name=name, tenant=tenant, scopes=scopes, adapters=adapters, indexes=indexes,
                secrets=(Secret(sha256=digest),), created=datetime.now(UTC), expires=expires,
                limits=limits or Quotas(),
            )  # fmt: skip
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        if not scopes:
            raise InputError("scopes: at least one is needed")

        def add(document: AccessDocument) -> dict[str, ApiKey]:
            for other in document.keys.values():
                if (other.tenant, other.name, other.revoked) == (tenant, name, None):
                    raise ConflictError(f"key '{name}' of tenant '{tenant}' exists: rotate or revoke {other.id}")
            return {key.id: key}

        self._change(add)
        return key, f"lp_{key.id}_{secret}"

    def rotate(self, key_id: str, overlap: timedelta) -> tuple[ApiKey, str]:
        """Give a key another secret; the one before is taken for the overlap.

        Args:
            key_id: id of the key.
            overlap: how long both are taken.

        Raises:
            NotFoundError: there is no such key.
            InputError: it has been revoked.
            ConflictError: others kept changing the keys.
        """
        secret, digest = new_secret()

        def replace(document: AccessDocument) -> dict[str, ApiKey]:
            key = _found(document, key_id)
            if key.revoked is not None:
                raise InputError(f"key {key_id} has been revoked: create another one")
            until = datetime.now(UTC) + overlap
            before = [
                secret.model_copy(update={"until": min(until, secret.until or until)}) for secret in key.secrets[:1]
            ]
            return {key_id: key.model_copy(update={"secrets": (Secret(sha256=digest), *before)})}

        return _found(self._change(replace), key_id), f"lp_{key_id}_{secret}"

    def revoke(self, key_id: str) -> ApiKey:
        """Stop taking a key.

        Raises:
            NotFoundError: there is no such key.
            ConflictError: others kept changing the keys.
        """

        def end(document: AccessDocument) -> dict[str, ApiKey]:
            key = _found(document, key_id)
            return {key_id: key.model_copy(update={"revoked": key.revoked or datetime.now(UTC)})}

        return _found(self._change(end), key_id)

    def _change(self, change: Callable[[AccessDocument], dict[str, ApiKey]]) -> AccessDocument:
        def changed(document: AccessDocument) -> AccessDocument:
            return AccessDocument(generation=document.generation + 1, keys={**document.keys, **change(document)})

        return self._document.update(changed, "the keys")


def _found(document: AccessDocument, key_id: str) -> ApiKey:
    if key_id not in document.keys:
        raise NotFoundError(f"there is no key {key_id}")
    return document.keys[key_id]
