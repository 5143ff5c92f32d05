"""`llama-platform keys`: keys of clients."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from llama_platform.access.keys import SCOPES, ApiKey, Scope
from llama_platform.access.quotas import parse_quotas
from llama_platform.access.registry import KeyRegistry
from llama_platform.audit.acts import acted
from llama_platform.cli.stores import Store, open_store
from llama_platform.errors import InputError


def key_commands() -> typer.Typer:
    """Return the commands that make, list, rotate and revoke keys."""
    commands = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke keys of clients.")

    @commands.command("create")
    def create(
        name: str,
        tenant: Annotated[str, typer.Option("--tenant", help="whom its use is counted for")],
        scopes: Annotated[str, typer.Option("--scopes", help=f"of {', '.join(SCOPES)}; commas between")] = "generate",
        adapters: Annotated[str, typer.Option("--adapters", help="adapters that it sees, such as support,acme-*")] = "",
        indexes: Annotated[str, typer.Option("--indexes", help="indexes that it sees, such as handbook")] = "",
        expires_days: Annotated[float | None, typer.Option("--expires-days", help="days that it is taken")] = None,
        limits: Annotated[
            str, typer.Option("--limits", help="how much it may use: requests_per_minute=60,tokens_per_day=100000")
        ] = "",
        store: Store = None,
    ) -> None:
        """Make a key NAME, and print it; nobody can read it again."""
        expires = None if expires_days is None else datetime.now(UTC) + timedelta(days=expires_days)
        opened = open_store(store).store
        key, text = KeyRegistry(opened).create(
            name, tenant, _scopes(scopes), _listed(adapters), _listed(indexes), expires, parse_quotas(limits)
        )
        acted(opened, "keys.create", key=key.id, name=name, tenant=tenant, scopes=list(key.scopes))
        print(f"{text}\n{_line(key)}\nkeep it: it is not shown again")

    @commands.command("list")
    def list_keys(store: Store = None) -> None:
        """List keys, without their secrets."""
        table = Table("id", "name", "tenant", "scopes", "adapters", "indexes", "limits", "state")
        for key in KeyRegistry(open_store(store).store).read().keys.values():
            table.add_row(
                key.id, key.name, key.tenant, ", ".join(key.scopes), ", ".join(key.adapters), ", ".join(key.indexes),
                ", ".join(f"{name}={amount}" for name, amount in key.limits.named().items()), _state(key),
            )  # fmt: skip
        Console().print(table)

    @commands.command("rotate")
    def rotate(
        key_id: str,
        overlap_hours: Annotated[float, typer.Option("--overlap-hours", min=0, help="hours that both are taken")] = 24,
        store: Store = None,
    ) -> None:
        """Give the key KEY_ID another secret, and print it."""
        opened = open_store(store).store
        key, text = KeyRegistry(opened).rotate(key_id, timedelta(hours=overlap_hours))
        acted(opened, "keys.rotate", key=key_id, overlap_hours=overlap_hours)
        print(f"{text}\n{_line(key)}\nthe one before is taken for {overlap_hours:g} hours more")

    @commands.command("revoke")
    def revoke(key_id: str, store: Store = None) -> None:
        """Stop taking the key KEY_ID."""
        opened = open_store(store).store
        key = KeyRegistry(opened).revoke(key_id)
        acted(opened, "keys.revoke", key=key_id)
        print(_line(key))

    return commands


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _scopes(text: str) -> tuple[Scope, ...]:
    wanted = _listed(text)
    if unknown := [scope for scope in wanted if scope not in SCOPES]:
        raise InputError(f"--scopes: '{unknown[0]}' is none; there are {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in wanted)


def _line(key: ApiKey) -> str:
    return f"{key.id}  {key.tenant}/{key.name}  {', '.join(key.scopes)}  {_state(key)}"


def _state(key: ApiKey) -> str:
    if key.revoked is not None:
        return f"revoked {key.revoked:%Y-%m-%d %H:%M}"
    if key.expires is None:
        return "taken"
    return f"{'taken until' if key.is_valid(datetime.now(UTC)) else 'expired'} {key.expires:%Y-%m-%d %H:%M}"
