"""`llama-platform store`: whether a store is whole, and a copy of it elsewhere."""

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from llama_platform.artifacts.verify import Verified, verify_store
from llama_platform.audit.acts import acted
from llama_platform.cli.stores import Store, open_store
from llama_platform.errors import IntegrityError
from llama_platform.storage import open_store as stores
from llama_platform.storage.transfer import Copied, copy_store

MB = 1e6


def store_commands() -> typer.Typer:
    """Return the commands that verify and copy a store."""
    commands = typer.Typer(no_args_is_help=True, help="Verify a store, and copy it.")

    @commands.command("verify")
    def verify(store: Store = None) -> None:
        """Read every file of every version and compare it with its digest; exit code 2 if one is damaged or missing."""
        repository = open_store(store)
        with _progress() as progress:
            task = progress.add_task("", total=None)

            def tell(label: str, so_far: Verified) -> None:
                progress.update(task, description=f"{label}  {so_far.files} files  {so_far.bytes / MB:,.0f} MB")

            found, problems = verify_store(repository, tell)
        print(f"{found.versions} versions, {found.files} files, {found.bytes / MB:,.1f} MB in {repository.store.root}")
        if problems:
            raise IntegrityError("\n".join(["the store is not whole:", *problems]))
        print("every file is what its manifest names")

    @commands.command("copy")
    def copy(source: str, target: str) -> None:
        """Copy the store SOURCE to TARGET, such as file:///backup; run it again to go on where it was interrupted."""
        opened = stores.open_store(target)
        with _progress() as progress:
            task = progress.add_task("", total=None)

            def tell(key: str, so_far: Copied) -> None:
                progress.update(task, description=f"{so_far.copied} copied  {so_far.bytes / MB:,.0f} MB  {key[-60:]}")

            done = copy_store(stores.open_store(source), opened, tell)
        acted(opened, "store.copy", source=source)
        print(f"{done.copied} objects copied, {done.bytes / MB:,.1f} MB; {done.present} were there already")
        print(f"llama-platform store verify --store {target} reads them all")

    return commands


def _progress() -> Progress:
    """Return a line on a terminal, and nothing elsewhere."""
    return Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), transient=True)
