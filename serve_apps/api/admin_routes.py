"""Administration: what `llama-platform adapters …` does, over HTTP, for whoever has the administrator's token."""

import asyncio
import hmac
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from llama_platform.artifacts.aliases import AliasDocument, Aliases
from llama_platform.artifacts.catalog import list_artifacts, show_version, summarize
from llama_platform.artifacts.repository import parse_ref
from llama_platform.errors import ConfigError, ForbiddenError, InputError, NotFoundError
from llama_platform.models.adapter_folder import export_adapter, import_adapter
from serve_apps.aliases.live_aliases import LiveAlias
from serve_apps.api.service import Service, WithService

Alias = Annotated[str, Field(min_length=1, max_length=63)]


def require_admin(request: Request, service: WithService) -> None:
    """Let administrators through.

    Raises:
        HTTPException: 401, the token is missing or wrong.
        ForbiddenError: administration is switched off.
    """
    file = service.config.admin_token_file
    if file is None:
        raise ForbiddenError("administration is switched off here; the configuration's admin_token_file switches it on")
    try:
        token = file.expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"admin_token_file: cannot be read on this node: {error.strerror}") from error
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if not token or scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise HTTPException(401, "send the administrator's token as Authorization: Bearer …")


routes = APIRouter(prefix="/admin", dependencies=[Depends(require_admin)])


class Change(BaseModel):
    """A change of an alias."""

    model_config = ConfigDict(extra="forbid")

    alias: Alias = "production"
    expected_generation: Annotated[int, Field(ge=0)] | None = None
    """Refuse with 409 if the aliases have another generation."""


class Promotion(Change):
    """Points an alias at a version."""

    version: Annotated[int, Field(ge=1)]


class Split(Change):
    """Spreads an alias over versions."""

    weights: Annotated[dict[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1, le=10_000)]], Field(min_length=1)]


class Source(BaseModel):
    """A PEFT folder elsewhere."""

    model_config = ConfigDict(extra="forbid")

    source: Annotated[str, Field(pattern=r"^s3://[^/]+", max_length=1000, description="s3://bucket/folder")]


class Destination(BaseModel):
    """A folder elsewhere."""

    model_config = ConfigDict(extra="forbid")

    ref: Annotated[str, Field(min_length=1, max_length=200, description="NAME, NAME@ALIAS or NAME@3")]
    destination: Annotated[str, Field(pattern=r"^s3://[^/]+/.", max_length=1000, description="s3://bucket/folder")]


@routes.get("/adapters")
async def list_adapters(service: WithService) -> list[dict[str, Any]]:
    """List adapters with their versions, aliases, and what is live of them, or why it is not."""
    found = await asyncio.to_thread(list_artifacts, service.repository, "adapter")
    return [{**summary.to_json(), "live": _live(service, summary.name)} for summary in found]


@routes.get("/adapters/{name}")
async def show_adapter(name: str, service: WithService) -> dict[str, Any]:
    """Show one adapter's aliases with their history, and the manifests of the versions that they name."""
    summary = await asyncio.to_thread(summarize, service.repository, "adapter", name)
    if not summary.versions:
        raise NotFoundError(f"adapter '{name}' has no versions")
    manifests = [await asyncio.to_thread(show_version, service.repository, version) for version in summary.aliased]
    history = [change.model_dump() for change in summary.aliases.history]
    return {**summary.to_json(), "versions": manifests, "history": history, "live": _live(service, name)}


@routes.post("/adapters/{name}/promote")
async def promote(name: str, body: Promotion, service: WithService) -> dict[str, Any]:
    """Point an alias at a version."""
    aliases = Aliases(service.repository, "adapter", name)
    document = await asyncio.to_thread(aliases.promote, body.alias, body.version, body.expected_generation)
    return _changed(name, body.alias, document)


@routes.post("/adapters/{name}/split")
async def split(name: str, body: Split, service: WithService) -> dict[str, Any]:
    """Spread an alias over versions in proportion to weights."""
    aliases = Aliases(service.repository, "adapter", name)
    document = await asyncio.to_thread(aliases.split, body.alias, body.weights, body.expected_generation)
    return _changed(name, body.alias, document)


@routes.post("/adapters/{name}/rollback")
async def rollback(name: str, service: WithService, body: Change | None = None) -> dict[str, Any]:
    """Point an alias at what it was before."""
    change = body or Change()
    aliases = Aliases(service.repository, "adapter", name)
    document = await asyncio.to_thread(aliases.rollback, change.alias, change.expected_generation)
    return _changed(name, change.alias, document)


@routes.post("/adapters/{name}/import", status_code=201)
async def import_from(name: str, body: Source, service: WithService) -> dict[str, Any]:
    """Publish a PEFT folder of a bucket as the next version."""
    version = await asyncio.to_thread(import_adapter, service.repository, name, body.source)
    return {"name": name, "version": version.version, "digest": version.digest}


@routes.post("/adapters/export")
async def export_to(body: Destination, service: WithService) -> dict[str, Any]:
    """Write a version as a plain PEFT folder into a bucket."""
    ref = parse_ref(body.ref)
    version = await asyncio.to_thread(Aliases(service.repository, "adapter", ref.name).resolve, ref, "")
    where = await asyncio.to_thread(export_adapter, service.repository, version, body.destination)
    return {"name": version.name, "version": version.version, "digest": version.digest, "destination": where}


def _changed(name: str, alias: str, document: AliasDocument) -> dict[str, Any]:
    targets = [{"version": target.version, "weight": target.weight} for target in document.aliases[alias]]
    return {"name": name, "alias": alias, "targets": targets, "generation": document.generation}


def _live(service: Service, name: str) -> dict[str, Any]:
    aliases = service.live.table("adapter").aliases
    return {alias: _state(live) for (owner, alias), live in aliases.items() if owner == name}


def _state(live: LiveAlias) -> dict[str, Any]:
    targets = [{"version": t.version.version, "digest": t.version.digest, "weight": t.weight} for t in live.targets]
    return {"status": live.status, "reason": live.reason, "targets": targets}


def check_token_file(service: Service) -> None:
    """Check at start that an administrator's token can be read and is long enough to be one.

    Raises:
        InputError: it is not.
    """
    file = service.config.admin_token_file
    if file is not None and len(file.expanduser().read_text(encoding="utf-8").strip()) < 16:
        raise InputError(f"admin_token_file: {file} holds fewer than 16 characters")
