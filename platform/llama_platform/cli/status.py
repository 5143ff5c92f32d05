"""`llama-platform status`: the store and an application in one screen."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llama_platform.access.usage import UsageCounts, read_usage
from llama_platform.artifacts.aliases import AliasDocument
from llama_platform.artifacts.catalog import list_artifacts
from llama_platform.artifacts.repository import ArtifactRepository
from llama_platform.canary.plan import list_canaries
from llama_platform.cli.stores import Store, open_store
from llama_platform.errors import UnavailableError
from llama_platform.training.run.records import list_run_ids, read_status, read_steps

RUNS_SHOWN = 5
NAMED = {"adapters": "adapter", "indexes": "index"}
App = Annotated[str | None, typer.Option("--app", help="http://host:port of an application to ask, too")]
Key = Annotated[str | None, typer.Option("--key", envvar="LP_KEY", help="a key of that application")]


def add_status(cli: typer.Typer) -> None:
    """Add the command to `cli`."""

    @cli.command("status")
    def status(
        app: App = None,
        key: Key = None,
        as_json: Annotated[bool, typer.Option("--json", help="one JSON document instead of tables")] = False,
        store: Store = None,
    ) -> None:
        """Show adapters, indexes, canaries, the last runs and today's use of a store, and how an application is."""
        found = read_store(open_store(store))
        if app is not None:
            found["application"] = ask_application(app, key)
        if as_json:
            print(json.dumps(found, indent=1, ensure_ascii=False))
        else:
            _show(found)


def read_store(repository: ArtifactRepository) -> dict[str, Any]:
    """Return what a store holds, as JSON values."""
    store, today = repository.store, datetime.now(UTC).date()
    use = UsageCounts()
    for row in read_usage(store, today, today):
        use.add(row)
    return {
        "store": store.root,
        "adapters": [_artifact(one.name, one.versions, one.aliases) for one in list_artifacts(repository, "adapter")],
        "indexes": [_artifact(one.name, one.versions, one.aliases) for one in list_artifacts(repository, "index")],
        "canaries": [
            {
                "adapter": one.name,
                "alias": one.alias,
                "candidate": one.candidate,
                "status": one.status,
                "why": one.reason,
            }
            for one in list_canaries(store)
        ],
        "runs": [_run(repository, run) for run in list_run_ids(store)[:RUNS_SHOWN]],
        "today": use.model_dump(),
    }


def ask_application(app: str, key: str | None) -> dict[str, Any]:
    """Return what an application says at `/health`.

    Raises:
        UnavailableError: it does not answer.
    """
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        found: dict[str, Any] = httpx.get(f"{app.rstrip('/')}/health", timeout=5, headers=headers).json()
    except (httpx.HTTPError, ValueError) as error:
        raise UnavailableError(f"{app}: does not answer as an application does ({type(error).__name__})") from error
    return {"url": app, **found}


def _artifact(name: str, versions: tuple[int, ...], document: AliasDocument) -> dict[str, Any]:
    pointed = {alias: {str(t.version): t.weight for t in targets} for alias, targets in document.aliases.items()}
    return {"name": name, "versions": len(versions), "newest": max(versions, default=0), "aliases": pointed}


def _run(repository: ArtifactRepository, run: str) -> dict[str, Any]:
    status = read_status(repository.store, run)
    last = (read_steps(repository.store, run) or [{}])[-1] if status.get("status") == "running" else {}
    shown = {name: status.get(name) for name in ("status", "step", "seconds", "updated")}
    return {"run": run, **shown, "steps": last.get("steps"), "loss": last.get("loss"), "eta_s": last.get("eta_s")}


def _show(found: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(f"[bold]{escape(found['store'])}[/]")
    table = Table("", "name", "versions", "aliases")
    for kind in ("adapters", "indexes"):
        for one in found[kind]:
            aliases = ", ".join(f"{alias} → {_versions(weights)}" for alias, weights in one["aliases"].items())
            table.add_row(NAMED[kind], one["name"], str(one["versions"]), aliases)
    console.print(table)
    for one in found["canaries"]:
        why = f": {one['why']}" if one["why"] else ""
        console.print(
            escape(f"canary {one['adapter']}@{one['alias']}: version {one['candidate']} {one['status']}{why}")
        )
    for run in found["runs"]:
        goes = (
            ""
            if run["eta_s"] is None
            else f" of {run['steps']}, loss {run['loss']:.3f}, {run['eta_s'] / 60:.0f} min to go"
        )
        console.print(escape(f"run {run['run']}: {run['status']}, step {run['step']}{goes}"))
    use = found["today"]
    tokens = f"{use['prompt_tokens']:,} + {use['completion_tokens']:,} tokens"
    console.print(f"today: {use['requests']:,} requests, {use['failed']:,} of them failed, {tokens}")
    if (application := found.get("application")) is not None:
        facts = {name: value for name, value in application.items() if not isinstance(value, dict) and name != "url"}
        console.print(escape(f"{application['url']}: " + ", ".join(f"{name} {value}" for name, value in facts.items())))


def _versions(weights: dict[str, int]) -> str:
    if len(weights) == 1:
        return f"v{next(iter(weights))}"
    total = sum(weights.values())
    return " + ".join(f"v{version} {100 * weight / total:.0f} %" for version, weight in weights.items())
