"""`llama-platform`: adapters and their aliases.

    llama-platform adapters list
    llama-platform adapters promote support 3
    llama-platform adapters split support 3=90 4=10
    llama-platform adapters rollback support

The store is `--store`, or `s3://$MODEL_BUCKET/$MODEL_S3_PREFIX`, or the demo's `.demo/store`.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from llama_platform.artifacts.aliases import Aliases, Target
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.artifacts.repository import ArtifactRepository, parse_ref
from llama_platform.cli.exit_codes import run_command
from llama_platform.errors import InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
adapters = typer.Typer(no_args_is_help=True, help="List, move and alias adapters.")
app.add_typer(adapters, name="adapters")

Store = Annotated[str | None, typer.Option("--store", help="s3://bucket/prefix or file:///folder")]
Alias = Annotated[str, typer.Option("--alias", help="the alias to change")]


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run_command(lambda: app(standalone_mode=True)))


@app.callback()
def _root() -> None:
    """Operate the platform: adapters and their aliases."""


@adapters.command("list")
def list_adapters(store: Store = None) -> None:
    """List adapters with their versions and aliases."""
    repository = _repository(store)
    table = Table("adapter", "versions", "aliases")
    for name in repository.names("adapter"):
        document = Aliases(repository, "adapter", name).read()
        aliases = [f"{alias} → {_shares(targets)}" for alias, targets in document.aliases.items()]
        table.add_row(name, ", ".join(map(str, repository.versions("adapter", name))), "\n".join(aliases))
    Console().print(table)


@adapters.command("show")
def show_adapter(ref: str, store: Store = None) -> None:
    """Show the manifest of an adapter: NAME, NAME@ALIAS or NAME@VERSION."""
    repository = _repository(store)
    parsed = parse_ref(ref)
    version = Aliases(repository, "adapter", parsed.name).resolve(parsed, subject="")
    Console().print_json(
        data={"version": version.version, "digest": version.digest, "created": version.created}
        | {"uri": repository.uri(version), **repository.manifest(version).model_dump()}
    )


@adapters.command("import")
def import_folder(name: str, folder: Path, store: Store = None) -> None:
    """Publish a PEFT FOLDER (adapter_config.json, adapter_model.safetensors) as the next version of NAME."""
    from llama_platform.models.adapter_folder import import_adapter

    version = import_adapter(_repository(store), name, folder)
    print(f"{name}@{version.version} {version.digest}")


@adapters.command("export")
def export_folder(ref: str, folder: Path, store: Store = None) -> None:
    """Write an adapter version as a plain PEFT FOLDER."""
    from llama_platform.models.adapter_folder import export_adapter

    repository = _repository(store)
    parsed = parse_ref(ref)
    version = Aliases(repository, "adapter", parsed.name).resolve(parsed, subject="")
    print(export_adapter(repository, version, folder))


@adapters.command("promote")
def promote(name: str, version: int, alias: Alias = "production", store: Store = None) -> None:
    """Point an alias of NAME at VERSION."""
    document = Aliases(_repository(store), "adapter", name).promote(alias, version)
    print(f"{name}@{alias} → {_shares(document.aliases[alias])} (generation {document.generation})")


@adapters.command("rollback")
def rollback(name: str, alias: Alias = "production", store: Store = None) -> None:
    """Point an alias of NAME at what it was before; again, and it goes one further back."""
    document = Aliases(_repository(store), "adapter", name).rollback(alias)
    print(f"{name}@{alias} → {_shares(document.aliases[alias])} (generation {document.generation})")


@adapters.command("split")
def split(name: str, shares: list[str], alias: Alias = "production", store: Store = None) -> None:
    """Spread an alias of NAME over versions: SHARES such as 3=90 4=10."""
    weights: dict[int, int] = {}
    for share in shares:
        version, equals, weight = share.partition("=")
        if not (equals and version.isdigit() and weight.isdigit()):
            raise InputError(f"{share!r}: expected VERSION=WEIGHT, such as 3=90")
        weights[int(version)] = int(weight)
    document = Aliases(_repository(store), "adapter", name).split(alias, weights)
    print(f"{name}@{alias} → {_shares(document.aliases[alias])} (generation {document.generation})")


def _repository(uri: str | None) -> ArtifactRepository:
    return repository_from(StoreConfig(uri=uri), os.environ)


def _shares(targets: tuple[Target, ...]) -> str:
    total = sum(target.weight for target in targets)
    return ", ".join(
        f"v{t.version}" + (f" {100 * t.weight / total:.0f} %" if len(targets) > 1 else "") for t in targets
    )
