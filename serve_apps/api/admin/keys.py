"""Keys of clients: made, listed, rotated and revoked."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from llama_platform.access.keys import ApiKey, Name, Scope
from llama_platform.access.quotas import Quotas
from llama_platform.access.registry import KeyRegistry
from llama_platform.errors import ForbiddenError, NotFoundError
from serve_apps.api.access import caller_of
from serve_apps.api.state import WithState

routes = APIRouter(prefix="/keys")
KeyId = Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
Pattern = Annotated[str, Field(min_length=1, max_length=200)]


class NewKey(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[Name, Field(description="says whose it is")]
    tenant: Annotated[Name, Field(description="whom its use is counted for")]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=10)] = ["generate"]
    adapters: Annotated[list[Pattern], Field(max_length=100)] = []
    """Names of adapters that it sees, `*` for any letters; none for those of its tenant."""
    indexes: Annotated[list[Pattern], Field(max_length=100)] = []
    """Names of indexes that it sees, `*` for any letters; none for those of its tenant."""
    limits: Quotas = Quotas()
    """How much it may use; none for what its tenant gives each key."""
    expires_days: Annotated[float, Field(gt=0, le=36_500)] | None = None


class Rotation(BaseModel):
    """How a key gets another secret."""

    model_config = ConfigDict(extra="forbid")

    overlap_hours: Annotated[float, Field(ge=0, le=8760)] = 24
    """How long the secret before is still taken."""


@routes.get("")
async def list_keys(request: Request, state: WithState) -> list[dict[str, Any]]:
    """List keys, without their secrets; with a key, those of its tenant."""
    caller = caller_of(request)
    document = await state.pools.store(KeyRegistry(state.repository.store).read)
    return [shown(key) for key in document.keys.values() if caller is None or key.tenant == caller.tenant]


@routes.post("", status_code=201)
async def create_key(body: NewKey, request: Request, state: WithState) -> dict[str, Any]:
    """Make a key; it is in this response and nowhere else."""
    caller, registry = caller_of(request), KeyRegistry(state.repository.store)
    if caller is not None:
        wider = body.tenant != caller.tenant or not set(body.scopes) <= set(caller.scopes)
        if wider or not (set(body.adapters) <= set(caller.adapters) and set(body.indexes) <= set(caller.indexes)):
            raise ForbiddenError("a key makes keys of its own tenant only, that may and see no more than itself")
    expires = None if body.expires_days is None else datetime.now(UTC) + timedelta(days=body.expires_days)
    work = partial(
        registry.create,
        body.name,
        body.tenant,
        tuple(body.scopes),
        tuple(body.adapters),
        tuple(body.indexes),
        expires,
        body.limits,
    )
    key, text = await state.pools.store(work)
    return {**shown(key), "key": text}


@routes.post("/{key_id}/rotate")
async def rotate_key(key_id: KeyId, request: Request, state: WithState, body: Rotation | None = None) -> dict[str, Any]:
    """Give a key another secret; both are taken for a while."""
    registry, rotation = await _own(key_id, request, state), body or Rotation()
    key, text = await state.pools.store(registry.rotate, key_id, timedelta(hours=rotation.overlap_hours))
    return {**shown(key), "key": text}


@routes.post("/{key_id}/revoke")
async def revoke_key(key_id: KeyId, request: Request, state: WithState) -> dict[str, Any]:
    """Stop taking a key."""
    registry = await _own(key_id, request, state)
    return shown(await state.pools.store(registry.revoke, key_id))


def shown(key: ApiKey) -> dict[str, Any]:
    """Return what may be shown of a key: everything but the digests of its secrets."""
    return key.model_dump(mode="json", exclude={"secrets"})


async def _own(key_id: str, request: Request, state: WithState) -> KeyRegistry:
    """Return the registry, if the caller may change a key."""
    registry, caller = KeyRegistry(state.repository.store), caller_of(request)
    if caller is not None:
        document = await state.pools.store(registry.read)
        if key_id not in document.keys or document.keys[key_id].tenant != caller.tenant:
            raise NotFoundError(f"there is no key {key_id}")
    return registry
