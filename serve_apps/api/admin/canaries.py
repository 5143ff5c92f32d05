"""Canaries: versions of adapters that prove themselves on growing shares of the traffic."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from llama_platform.access.keys import sees
from llama_platform.canary.conduct import Conductor
from llama_platform.canary.plan import Canary, CanaryPlan, list_canaries
from serve_apps.api.access import caller_of
from serve_apps.api.admin.parameters import Alias, Name
from serve_apps.api.state import AppState, WithState

routes = APIRouter()


class CanaryRequest(CanaryPlan):
    """A canary to be started."""

    version: Annotated[int, Field(ge=1)] = Field(description="the candidate")
    alias: Alias = "production"


@routes.get("/canaries")
async def list_all(request: Request, state: WithState) -> list[dict[str, Any]]:
    """List the newest canary of each alias; with a key, those of adapters that it sees."""
    found, caller = await state.pools.store(list_canaries, state.repository.store), caller_of(request)
    return [_shown(canary) for canary in found if sees(caller, "adapter", canary.name)]


@routes.get("/adapters/{name}/canary")
async def show(name: Name, state: WithState, alias: Alias = "production") -> dict[str, Any]:
    """Show how an alias's newest canary stands."""
    return _shown(await state.pools.store(_conductor(state, name, alias).read))


@routes.post("/adapters/{name}/canary")
async def start(name: Name, body: CanaryRequest, state: WithState) -> dict[str, Any]:
    """Give a version a share of an alias's traffic; it is promoted or rolled back by what its answers come to."""
    plan = CanaryPlan(**body.model_dump(exclude={"version", "alias"}))
    return _shown(await state.pools.store(_conductor(state, name, body.alias).start, body.version, plan))


@routes.delete("/adapters/{name}/canary")
async def stop(name: Name, state: WithState, alias: Alias = "production") -> dict[str, Any]:
    """End a canary; the version that answered before answers everything again."""
    return _shown(await state.pools.store(_conductor(state, name, alias).stop))


def _conductor(state: AppState, name: str, alias: str) -> Conductor:
    return Conductor(state.repository, name, alias)


def _shown(canary: Canary) -> dict[str, Any]:
    return canary.model_dump(mode="json", exclude={"learned", "intent"})
