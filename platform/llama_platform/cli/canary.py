"""`llama-platform canary`: versions of adapters that prove themselves on growing shares of the traffic."""

import time
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llama_platform.canary.conduct import Conductor
from llama_platform.canary.plan import GUARDS, Canary, CanaryPlan, list_canaries
from llama_platform.cli.stores import Store, open_store
from llama_platform.config import describe_errors
from llama_platform.errors import ConfigError, GateError

Name = Annotated[str, typer.Argument(help="name of the adapter")]
Alias = Annotated[str, typer.Option("--alias", help="whose traffic is shared")]
FOLLOWED_EVERY_S = 2.0


def canary_commands() -> typer.Typer:
    """Return the commands that start, show and stop canaries."""
    commands = typer.Typer(no_args_is_help=True, help="Let a version prove itself on growing shares of the traffic.")
    usual = CanaryPlan()

    @commands.command("start")
    def start(
        name: Name,
        version: Annotated[int, typer.Argument(min=1, help="the candidate")],
        alias: Alias = "production",
        shares: Annotated[str, typer.Option("--shares", help="percent of the traffic, step by step")] = ",".join(
            map(str, usual.shares)
        ),
        requests: Annotated[
            int, typer.Option("--requests", help="that the candidate answers in each step")
        ] = usual.requests,
        alpha: Annotated[float, typer.Option("--alpha", help="how probable a false alarm may be")] = usual.alpha,
        guards: Annotated[str, typer.Option("--guards", help=f"of {', '.join(GUARDS)}")] = ",".join(usual.guards),
        follow: Annotated[bool, typer.Option("--follow", help="wait for the verdict; 1 unless promoted")] = False,
        store: Store = None,
    ) -> None:
        """Give VERSION a share of the alias's traffic; the application promotes it or rolls it back."""
        told = {"shares": shares.split(","), "requests": requests, "alpha": alpha, "guards": guards.split(",")}
        conductor = Conductor(open_store(store), name, alias)
        _show(conductor.start(version, _plan(told)))
        if follow:
            _follow(conductor)

    @commands.command("list")
    def list_all(store: Store = None) -> None:
        """List the newest canary of each alias."""
        table = Table("adapter", "alias", "candidate", "beside", "status", "share", "requests", "why")
        for canary in list_canaries(open_store(store).store):
            share = "" if canary.share is None else f"{canary.share} %"
            answered = str(canary.requests.get(canary.candidate, 0))
            versions = (str(canary.candidate), str(canary.present))
            table.add_row(canary.name, canary.alias, *versions, canary.status, share, answered, escape(canary.reason))
        Console().print(table)

    @commands.command("status")
    def status(
        name: Name,
        alias: Alias = "production",
        as_json: Annotated[bool, typer.Option("--json", help="the whole document")] = False,
        follow: Annotated[bool, typer.Option("--follow", help="wait for the verdict; 1 unless promoted")] = False,
        store: Store = None,
    ) -> None:
        """Show how a canary stands, and why it ended."""
        conductor = Conductor(open_store(store), name, alias)
        found = conductor.read()
        if as_json:
            print(found.model_dump_json(indent=1))
        else:
            _show(found)
        if follow:
            _follow(conductor)

    @commands.command("stop")
    def stop(name: Name, alias: Alias = "production", store: Store = None) -> None:
        """End a canary; the version that answered before answers everything again."""
        _show(Conductor(open_store(store), name, alias).stop())

    return commands


def _plan(told: dict[str, Any]) -> CanaryPlan:
    try:
        return CanaryPlan.model_validate(told)
    except ValidationError as error:
        raise ConfigError(describe_errors(CanaryPlan, error, "canary")) from error


def _follow(conductor: Conductor) -> None:
    """Show what changes until there is a verdict.

    Raises:
        GateError: the candidate was not promoted.
    """
    seen = conductor.read()
    while seen.status == "running":
        time.sleep(FOLLOWED_EVERY_S)
        now = conductor.read()
        if (now.status, len(now.periods), now.requests) != (seen.status, len(seen.periods), seen.requests):
            print(_line(now))
        seen = now
    if seen.status != "promoted":
        raise GateError(f"{seen.name}@{seen.candidate} is not promoted: {seen.reason}")


def _show(canary: Canary) -> None:
    print(_line(canary))
    if not canary.guards:
        return
    of = canary.requests
    table = Table("against it", f"version {canary.candidate}", f"version {canary.present}", "evidence, share of needed")
    for guard, state in canary.guards.items():
        share = max(0.0, state.evidence / canary.needed)
        counts = (f"{state.candidate} of {of[canary.candidate]}", f"{state.present} of {of[canary.present]}")
        table.add_row(GUARDS[guard], *counts, f"{share:.0%}")
    Console().print(table)


def _line(canary: Canary) -> str:
    share = "" if canary.share is None else f", {canary.share} % of the traffic"
    answered = f"{canary.requests.get(canary.candidate, 0)} requests"
    why = f": {canary.reason}" if canary.reason else ""
    return f"{canary.name}@{canary.alias}: version {canary.candidate} {canary.status}{share}, {answered}{why}"
