"""Aliases of adapters and indexes: what is live, promotions, splits and rollbacks."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from llama_platform.access.keys import sees
from llama_platform.artifacts.aliases import AliasDocument, Aliases
from llama_platform.artifacts.catalog import list_artifacts, show_version, summarize
from llama_platform.artifacts.manifest import ArtifactKind
from llama_platform.errors import NotFoundError
from serve_apps.api.access import caller_of
from serve_apps.api.admin.parameters import VERSION_FORM, Alias, Name
from serve_apps.api.state import AppState, WithState
from serve_apps.routing.table import Route


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

    weights: Annotated[
        dict[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1, le=10_000)]],
        Field(min_length=1, json_schema_extra={"propertyNames": {"pattern": f"^{VERSION_FORM}$"}}),
    ]


def alias_routes(prefix: str, kind: ArtifactKind) -> APIRouter:
    """Return the routes below `prefix` for the aliases of one kind of artifact."""
    routes = APIRouter(prefix=prefix)

    @routes.get("")
    async def list_all(request: Request, state: WithState) -> list[dict[str, Any]]:
        """List names with their versions, aliases, and what is live of them, or why it is not."""
        found, caller = await state.pools.store(list_artifacts, state.repository, kind), caller_of(request)
        seen = [summary for summary in found if sees(caller, kind, summary.name)]
        return [{**summary.to_json(), "live": _live(state, kind, summary.name)} for summary in seen]

    @routes.get("/{name}")
    async def show(name: Name, state: WithState) -> dict[str, Any]:
        """Show one name's aliases with their history, and the manifests of the versions that they name."""
        summary = await state.pools.store(summarize, state.repository, kind, name)
        if not summary.versions:
            raise NotFoundError(f"{kind} '{name}' has no versions")
        manifests = [await state.pools.store(show_version, state.repository, version) for version in summary.aliased]
        history = [change.model_dump() for change in summary.aliases.history]
        return {**summary.to_json(), "versions": manifests, "history": history, "live": _live(state, kind, name)}

    @routes.post("/{name}/promote")
    async def promote(name: Name, body: Promotion, state: WithState) -> dict[str, Any]:
        """Point an alias at a version."""
        aliases = Aliases(state.repository, kind, name)
        document = await state.pools.store(aliases.promote, body.alias, body.version, body.expected_generation)
        return _changed(name, body.alias, document)

    @routes.post("/{name}/split")
    async def split(name: Name, body: Split, state: WithState) -> dict[str, Any]:
        """Spread an alias over versions in proportion to weights."""
        aliases = Aliases(state.repository, kind, name)
        document = await state.pools.store(aliases.split, body.alias, body.weights, body.expected_generation)
        return _changed(name, body.alias, document)

    @routes.post("/{name}/rollback")
    async def rollback(name: Name, state: WithState, body: Change | None = None) -> dict[str, Any]:
        """Point an alias at what it was before."""
        change = body or Change()
        aliases = Aliases(state.repository, kind, name)
        document = await state.pools.store(aliases.rollback, change.alias, change.expected_generation)
        return _changed(name, change.alias, document)

    return routes


def _changed(name: Name, alias: str, document: AliasDocument) -> dict[str, Any]:
    targets = [{"version": target.version, "weight": target.weight} for target in document.aliases[alias]]
    return {"name": name, "alias": alias, "targets": targets, "generation": document.generation}


def _live(state: AppState, kind: ArtifactKind, name: str) -> dict[str, Any]:
    aliases = state.router.table(kind).aliases
    return {alias: _state(live) for (owner, alias), live in aliases.items() if owner == name}


def _state(live: Route) -> dict[str, Any]:
    targets = [{"version": t.version.version, "digest": t.version.digest, "weight": t.weight} for t in live.targets]
    return {"status": live.status, "reason": live.reason, "targets": targets}
