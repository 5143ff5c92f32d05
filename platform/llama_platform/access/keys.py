"""Keys: what clients prove with them who they are, and what each may do.

A key is shown once, as `lp_<id>_<secret>` with 256 random bits; only the sha256 of its secret is kept.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from llama_platform.access.quotas import Quotas
from llama_platform.errors import ForbiddenError, NotFoundError, UnauthorizedError

Scope = Literal["generate", "rag", "embed", "feedback", "admin:read", "admin:write"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_KEY = re.compile(r"lp_([0-9a-f]{12})_([0-9a-f]{64})")
_NOBODY = "0" * 64
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Patterns = tuple[Annotated[str, Field(min_length=1, max_length=200)], ...]


class Secret(BaseModel):
    """One secret of a key; after a rotation there are two for a while."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    """Of the secret's text, in hexadecimal digits."""
    until: datetime | None = None
    """When it stops being taken; None for never."""


class ApiKey(BaseModel):
    """What is kept of a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Twelve hexadecimal digits; no secret."""
    name: Name
    """Says whose it is."""
    tenant: Name
    """Whom its use is counted for."""
    scopes: tuple[Scope, ...]
    """What it may do."""
    adapters: Patterns = ()
    """Names of adapters that it sees, `*` for any letters; none for those of its tenant."""
    indexes: Patterns = ()
    """Names of indexes that it sees, `*` for any letters; none for those of its tenant."""
    limits: Quotas = Quotas()
    """How much it may use; without any, what its tenant gives each key."""
    secrets: tuple[Secret, ...]
    """The newest first."""
    created: datetime
    """When it was made."""
    expires: datetime | None = None
    """When it stops being taken; None for never."""
    revoked: datetime | None = None
    """When it was revoked."""

    def is_valid(self, now: datetime) -> bool:
        """Return whether it is taken at all."""
        return self.revoked is None and (self.expires is None or now < self.expires)


class AccessDocument(BaseModel):
    """Content of `access/keys.json`."""

    # An error of a damaged document shows nothing of it.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    generation: int = 0
    """Count of its changes."""
    keys: Mapping[str, ApiKey] = {}
    """Keys by id."""


class Caller(BaseModel):
    """Who asks, and what it may see and do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """Id of the key."""
    tenant: str
    """Whom the request is counted for."""
    scopes: tuple[Scope, ...]
    """What it may do."""
    adapters: Patterns
    """Names of adapters that it sees."""
    indexes: Patterns
    """Names of indexes that it sees."""
    limits: Quotas = Quotas()
    """How much the key may use."""

    def require(self, scope: Scope) -> None:
        """Check that it may do something.

        Raises:
            ForbiddenError: it may not.
        """
        if scope not in self.scopes:
            raise ForbiddenError(f"this key has not the scope '{scope}'; it has: {', '.join(self.scopes) or 'none'}")

    def sees(self, kind: str, name: str) -> bool:
        """Return whether it may know of an artifact.

        Args:
            kind: `adapter` or `index`.
            name: name of the artifact.
        """
        patterns = self.adapters if kind == "adapter" else self.indexes
        return any(fnmatchcase(name, pattern) for pattern in patterns)


def sees(caller: Caller | None, kind: str, name: str) -> bool:
    """Return whether a caller may know of an artifact; see Caller.sees. None, where no keys are asked for, sees all."""
    return caller is None or caller.sees(kind, name)


def check_sees(caller: Caller | None, kind: str, name: str) -> None:
    """Check that a caller may know of an artifact; see `sees`.

    Raises:
        NotFoundError: it may not; as of what does not exist.
    """
    if not sees(caller, kind, name):
        raise NotFoundError(f"there is no {kind} '{name}'")


def new_secret() -> tuple[str, str]:
    """Return (secret, sha256), each in 64 hexadecimal digits."""
    secret = secrets.token_hex(32)
    return secret, hashlib.sha256(secret.encode()).hexdigest()


class TenantDefaults(BaseModel):
    """What keys of a tenant see and may use that say nothing of it themselves."""

    model_config = ConfigDict(frozen=True)

    adapters: Patterns = ()
    """Names of adapters."""
    indexes: Patterns = ()
    """Names of indexes."""
    limits: Quotas = Quotas()
    """How much each key may use."""


def authenticate(document: AccessDocument, text: str, now: datetime, tenants: Mapping[str, TenantDefaults]) -> Caller:
    """Return who a key is of.

    Every key takes the same time, whatever of it is right.

    Args:
        document: all keys.
        text: what the client sent as its key.
        now: time of the request, with its zone.
        tenants: what each tenant gives its keys.

    Raises:
        UnauthorizedError: it is no key, or one that is not taken any more.
    """
    found = _KEY.fullmatch(text)
    digest = hashlib.sha256((found[2] if found else text).encode("utf-8", "replace")).hexdigest()
    key = document.keys.get(found[1]) if found else None
    known: Iterable[Secret] = key.secrets if key is not None else (Secret(sha256=_NOBODY),)
    taken = [
        hmac.compare_digest(secret.sha256, digest) and (secret.until is None or now < secret.until) for secret in known
    ]
    if key is None or not any(taken) or not key.is_valid(now):
        raise UnauthorizedError("this key is not known here, or not taken any more")
    defaults = tenants.get(key.tenant, TenantDefaults())
    return Caller(
        key=key.id,
        tenant=key.tenant,
        scopes=key.scopes,
        adapters=key.adapters or defaults.adapters,
        indexes=key.indexes or defaults.indexes,
        limits=key.limits if key.limits.named() else defaults.limits,
    )
