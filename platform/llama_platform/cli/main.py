"""`llama-platform`: adapters, indexes and their aliases.

    llama-platform status --app http://127.0.0.1:8000
    llama-platform adapters list
    llama-platform adapters promote support 3
    llama-platform adapters split support 3=90 4=10
    llama-platform canary start support 5 --shares 5,20,50
    llama-platform compare support@4 support@5 --prompts prompts.txt --output report.html
    llama-platform indexes rollback docs
    llama-platform keys create ada --tenant acme --scopes generate,rag --adapters support
    llama-platform usage --tenant acme
    llama-platform audit verify
    llama-platform feedback forget --user ada
    llama-platform store copy s3://bucket/llama file:///backup
    llama-platform preflight --app serve_apps/configs/gpu.yaml --cluster cluster.yaml
    llama-platform prune --keep 5 --older-than-days 30
    llama-platform bench --model tiny
    llama-platform fit --base 7b --gpu A10G --adapters 8 --rank 64

The store is `--store`, or `s3://$MODEL_BUCKET/$MODEL_S3_PREFIX`, or the demo's `.demo/store`.
"""

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from llama_platform.artifacts.aliases import AliasDocument, Aliases, Target
from llama_platform.artifacts.catalog import list_artifacts, show_version
from llama_platform.artifacts.manifest import ArtifactKind
from llama_platform.artifacts.prune import delete_garbage, find_garbage
from llama_platform.artifacts.refs import resolve
from llama_platform.audit.acts import acted
from llama_platform.cli.audit import add_replay, audit_commands
from llama_platform.cli.bench import add_bench
from llama_platform.cli.canary import canary_commands
from llama_platform.cli.compare import add_compare
from llama_platform.cli.exit_codes import run_command
from llama_platform.cli.feedback import feedback_commands
from llama_platform.cli.keys import key_commands
from llama_platform.cli.preflight import add_preflight
from llama_platform.cli.status import add_status
from llama_platform.cli.store import store_commands
from llama_platform.cli.stores import Store, open_store
from llama_platform.cli.usage import add_usage
from llama_platform.errors import InputError, NotFoundError, UnauthorizedError, UnavailableError
from llama_platform.inference.gpu_memory import (
    GIB,
    GPUS,
    gpu_gib,
    parse_quantization,
    plan_memory,
    read_shape,
)
from llama_platform.models.prompt import PromptStyle
from llama_platform.models.stored_base import folder_digest

Alias = Annotated[str, typer.Option("--alias", help="the alias to change")]
App = Annotated[str | None, typer.Option("--app", help="http://host:port of an application to wait for")]
Key = Annotated[str | None, typer.Option("--key", envvar="LP_KEY", help="a key of that application")]
FOLLOWED_S = 30.0
"""How long an application may take to follow an alias, in seconds."""
Ref = Annotated[str, typer.Argument(help="NAME, NAME@ALIAS or NAME@VERSION")]
Style = Annotated[
    PromptStyle | None,
    typer.Option("--prompt-style", help="prompts it was trained with, where the folder tells no fingerprint"),
]


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run_command(build_cli()))


def build_cli() -> typer.Typer:
    """Return the command line."""
    cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
    adapters = alias_commands("adapter", "List, move and alias adapters.")
    _add_folder_commands(adapters)
    add_status(cli)
    cli.add_typer(adapters, name="adapters")
    cli.add_typer(alias_commands("index", "List and alias indexes."), name="indexes")
    cli.add_typer(canary_commands(), name="canary")
    cli.add_typer(key_commands(), name="keys")
    cli.add_typer(audit_commands(), name="audit")
    add_compare(cli)
    add_replay(cli)
    add_usage(cli)
    cli.add_typer(feedback_commands(), name="feedback")
    cli.add_typer(store_commands(), name="store")
    add_preflight(cli)
    _add_bases(cli)
    _add_prune(cli)
    _add_fit(cli)
    add_bench(cli)
    return cli


def _add_fit(cli: typer.Typer) -> None:
    @cli.command("fit")
    def fit(
        base: Annotated[str, typer.Option("--base", help="7b, 13b, 70b, or a folder with a config.json")] = "7b",
        gpu: Annotated[str, typer.Option("--gpu", help=f"{', '.join(GPUS)}, or GiB")] = "A10G",
        gpus: Annotated[int, typer.Option("--gpus", min=1, help="GPUs that one replica is spread over")] = 1,
        adapters: Annotated[int, typer.Option("--adapters", min=0, help="adapters in use at the same time")] = 8,
        rank: Annotated[int, typer.Option("--rank", min=1, help="the largest rank of them")] = 64,
        quantization: Annotated[str, typer.Option("--quantization", help="none, int8, fp8 or int4")] = "none",
    ) -> None:
        """Show what a base and adapters take of a GPU's memory, and how many requests have room in the rest."""
        plan = plan_memory(read_shape(base), gpu_gib(gpu), gpus, adapters, rank, parse_quantization(quantization))
        table = Table("on each GPU", "GiB")
        for name, size in {
            "weights": plan.weights, f"{adapters} adapters of rank {rank}": plan.adapters,
            "CUDA and activations (assumed)": plan.overhead, "left for keys and values": plan.kv_cache,
        }.items():  # fmt: skip
            table.add_row(name, f"{size / GIB:.1f}")
        Console().print(table)
        for tokens in (512, 2048, 4096):
            print(f"requests of {tokens} tokens at the same time: {plan.requests_of(tokens)}")
        if not plan.fits:
            raise InputError("no request of 4,096 tokens fits: fewer adapters, a lower rank, more GPUs, or fewer bits")


def _add_bases(cli: typer.Typer) -> None:
    commands = typer.Typer(no_args_is_help=True, help="Bases that lie in a store.")
    cli.add_typer(commands, name="bases")

    @commands.command("digest")
    def digest(folder: Path) -> None:
        """Print the digest of a local FOLDER with a base, for base.sha256."""
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder}: holds no config.json; name the folder of a base")
        print(folder_digest(folder))


def _add_prune(cli: typer.Typer) -> None:
    @cli.command("prune")
    def prune(
        keep: Annotated[int, typer.Option("--keep", min=1, help="newest versions of each name that stay")] = 5,
        days: Annotated[int, typer.Option("--older-than-days", min=0, help="what is newer stays")] = 7,
        delete: Annotated[bool, typer.Option("--delete", help="delete; without it, only show what would go")] = False,
        store: Store = None,
    ) -> None:
        """Show, or delete, versions that no alias and no history names, and what publishes left behind."""
        repository = open_store(store)
        found = find_garbage(repository, keep, datetime.now(UTC) - timedelta(days=days))
        table = Table("kind", "what", "files", "MB", "deleted" if delete else "would go")
        for garbage in found:
            went = delete_garbage(repository, garbage) if delete else True
            size = f"{garbage.size_bytes / 1e6:,.1f}"
            table.add_row(garbage.kind, garbage.label, str(len(garbage.keys)), size, "yes" if went else "no: in use")
        Console().print(table)
        if found and delete:
            acted(repository.store, "prune", deleted=[f"{garbage.kind} {garbage.label}" for garbage in found])
        if found and not delete:
            print("nothing was deleted; run it again with --delete")


def alias_commands(kind: ArtifactKind, help_text: str) -> typer.Typer:
    """Return the commands that work on every kind of artifact with aliases."""
    commands = typer.Typer(no_args_is_help=True, help=help_text)

    @commands.command("list")
    def list_names(store: Store = None) -> None:
        """List names with their versions and aliases."""
        table, repository = Table(kind, "versions", "aliases"), open_store(store)
        for found in list_artifacts(repository, kind):
            pointing = [f"{alias} → {_shares(targets)}" for alias, targets in found.aliases.aliases.items()]
            table.add_row(found.name, ", ".join(map(str, found.versions)), "\n".join(pointing))
        if not table.rows:
            repository.store.check()
            raise NotFoundError(f"no {kind} in {repository.store.root}; --store, or MODEL_BUCKET, names another store")
        Console().print(table)

    @commands.command("show")
    def show(ref: Ref, store: Store = None) -> None:
        """Show a version's manifest."""
        repository = open_store(store)
        Console().print_json(data=show_version(repository, resolve(repository, kind, ref)))

    @commands.command("promote")
    def promote(
        name: str, version: int, alias: Alias = "production", store: Store = None, app: App = None, key: Key = None
    ) -> None:
        """Point an alias of NAME at VERSION."""
        repository = open_store(store)
        document = Aliases(repository, kind, name).promote(alias, version)
        acted(repository.store, f"{kind}.promote", name=name, alias=alias, version=version)
        _print_alias(name, alias, document)
        if app:
            _wait_until_followed(app, name, document, key)

    @commands.command("rollback")
    def rollback(name: str, alias: Alias = "production", store: Store = None, app: App = None, key: Key = None) -> None:
        """Point an alias of NAME at what it was before; again, and it goes one further back."""
        repository = open_store(store)
        document = Aliases(repository, kind, name).rollback(alias)
        acted(repository.store, f"{kind}.rollback", name=name, alias=alias, now=_shares(document.aliases[alias]))
        _print_alias(name, alias, document)
        if app:
            _wait_until_followed(app, name, document, key)

    @commands.command("split")
    def split(name: str, shares: list[str], alias: Alias = "production", store: Store = None) -> None:
        """Spread an alias of NAME over versions: SHARES such as 3=90 4=10."""
        weights, repository = dict(_parse_share(share) for share in shares), open_store(store)
        document = Aliases(repository, kind, name).split(alias, weights)
        acted(repository.store, f"{kind}.split", name=name, alias=alias, shares=shares)
        _print_alias(name, alias, document)

    return commands


def _add_folder_commands(adapters: typer.Typer) -> None:
    # safetensors and numpy are imported by these two commands only: the others answer at once.
    @adapters.command("import")
    def import_folder(name: str, folder: str, prompt_style: Style = None, store: Store = None) -> None:
        """Publish a PEFT FOLDER, local or s3://bucket/folder, as the next version of NAME."""
        from llama_platform.models.adapter_transfer import import_adapter

        repository = open_store(store)
        version = import_adapter(repository, name, folder, prompt_style)
        acted(repository.store, "adapter.import", name=name, version=version.version, digest=version.digest)
        print(f"{name}@{version.version} {version.digest}")

    @adapters.command("export")
    def export_folder(ref: Ref, folder: str, store: Store = None) -> None:
        """Write an adapter version as a plain PEFT FOLDER, local or s3://bucket/folder."""
        from llama_platform.models.adapter_transfer import export_adapter

        repository = open_store(store)
        print(export_adapter(repository, resolve(repository, "adapter", ref), folder))


def _parse_share(text: str) -> tuple[int, int]:
    version, equals, weight = text.partition("=")
    if not (equals and text.isascii() and version.isdigit() and weight.isdigit()):
        raise InputError(f"{text!r}: expected VERSION=WEIGHT, such as 3=90")
    return int(version), int(weight)


def _print_alias(name: str, alias: str, document: AliasDocument) -> None:
    print(f"{name}@{alias} → {_shares(document.aliases[alias])} (generation {document.generation})")


def _wait_until_followed(app: str, name: str, document: AliasDocument, key: str | None = None) -> None:
    """Return when an application knows this state of an artifact's aliases.

    Args:
        app: URL of the application.
        name: name of the artifact.
        document: the state.
        key: a key of the application that sees the artifact; None where it asks for none.

    Raises:
        UnavailableError: it does not within the time.
    """
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    deadline, said = time.monotonic() + FOLLOWED_S, "it does not answer"
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{app.rstrip('/')}/model/info", timeout=5, headers=headers)
            if answer.status_code == 401:
                raise UnauthorizedError(
                    f"the alias has been changed, but {app} asks for a key to say so: --key, or LP_KEY"
                )
            info = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            said = f"it does not answer ({type(error).__name__})"
        else:
            known = [one["generation"] for kind in ("adapters", "indexes") for one in info[kind] if one["name"] == name]
            if known and max(known) >= document.generation:
                print(f"{app} answers with it")
                return
            said = f"it is at generation {max(known, default=0)}, this is {document.generation}"
        time.sleep(0.5)
    raise UnavailableError(
        f"the alias has been changed, but {app} has not followed within {FOLLOWED_S:g} s: {said}; "
        "see its /health, and whether it reads the same store"
    )


def _shares(targets: tuple[Target, ...]) -> str:
    total = sum(target.weight for target in targets)
    return ", ".join(
        f"v{t.version}" + (f" {100 * t.weight / total:.0f} %" if len(targets) > 1 else "") for t in targets
    )
