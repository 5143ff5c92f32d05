"""Runs of fine-tuning: which there are, and how each goes."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from llama_platform.access.keys import Caller, sees
from llama_platform.artifacts.manifest import check_name
from llama_platform.errors import ConfigError, NotFoundError
from llama_platform.storage.base import ObjectStore
from llama_platform.training.run.records import list_run_ids, read_settings, read_status, read_steps
from serve_apps.api.access import caller_of
from serve_apps.api.admin.parameters import NAME_FORM
from serve_apps.api.state import WithState

routes = APIRouter(prefix="/runs")
REMEMBERED = 10_000
_ADAPTER_OF: dict[tuple[str, str], str] = {}
"""Names of adapters by store and run: a run never has another."""
Run = Annotated[str, Path(max_length=63, json_schema_extra={"pattern": NAME_FORM})]


@routes.get("")
async def list_runs(
    request: Request,
    state: WithState,
    start: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """List runs with their status, the newest id first; with a key, those of adapters that it sees."""
    return await state.pools.store(_page, state.repository.store, caller_of(request), start, limit)


@routes.get("/{run}")
async def show_run(run: Run, request: Request, state: WithState) -> dict[str, Any]:
    """Show a run's status and settings, and the measures of its steps.

    Raises:
        NotFoundError: there is none of this id that the caller sees.
    """
    check_name(run, "run")
    return await state.pools.store(_whole, state.repository.store, caller_of(request), run)


def _page(store: ObjectStore, caller: Caller | None, start: int, limit: int) -> dict[str, Any]:
    runs = list_run_ids(store)
    if caller is not None and "*" not in caller.adapters:
        runs = [run for run in runs if _sees(store, caller, run)]
    shown = [{"run": run, **_status(store, run)} for run in runs[start : start + limit]]
    return {"total": len(runs), "runs": shown}


def _status(store: ObjectStore, run: str) -> dict[str, Any]:
    try:
        return read_status(store, run)
    except ValueError:
        return {"status": "damaged"}


def _whole(store: ObjectStore, caller: Caller | None, run: str) -> dict[str, Any]:
    status = read_status(store, run)
    if not status or (caller is not None and not _sees(store, caller, run)):
        raise NotFoundError(f"there is no run '{run}'")
    return {"run": run, **status, "settings": read_settings(store, run), "steps": read_steps(store, run)}


def _sees(store: ObjectStore, caller: Caller, run: str) -> bool:
    key = (store.root, run)
    if key not in _ADAPTER_OF:
        try:
            name = (read_settings(store, run).get("adapter") or {}).get("name")
        except ConfigError:  # of a damaged run nobody knows whose it is
            return False
        if name is None:  # it has not begun to write yet
            return False
        if len(_ADAPTER_OF) >= REMEMBERED:
            _ADAPTER_OF.clear()
        _ADAPTER_OF[key] = str(name)
    return sees(caller, "adapter", _ADAPTER_OF[key])
