"""`llama-platform preflight`: what would fail on a cluster, before anything is started."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from llama_platform.cli.stores import Store, open_store
from llama_platform.errors import InputError, PlatformError
from llama_platform.preflight.application import check_application, read_application
from llama_platform.preflight.cluster_file import check_cluster_file
from llama_platform.preflight.findings import Finding, worst
from llama_platform.preflight.machine import check_cluster, check_machine
from llama_platform.preflight.store import check_store
from llama_platform.preflight.working_directory import check_working_directory

COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def add_preflight(cli: typer.Typer) -> None:
    """Add the command to `cli`."""

    @cli.command("preflight")
    def preflight(
        app: Annotated[Path | None, typer.Option("--app", help="file of the application or of serve deploy")] = None,
        cluster: Annotated[Path | None, typer.Option("--cluster", help="file of ray up")] = None,
        working_dir: Annotated[Path | None, typer.Option("--working-dir", help="folder of ray job submit")] = None,
        address: Annotated[str | None, typer.Option("--address", help="dashboard, http://host:8265")] = None,
        gpu: Annotated[str | None, typer.Option("--gpu", help="GPU of the serving nodes, such as A10G, or GiB")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="one JSON list instead of a table")] = False,
        store: Store = None,
    ) -> None:
        """Check what `ray up`, `ray job submit` and `serve deploy` will need; exit code 2 if something will fail."""
        findings = [*check_machine()]
        for check in (
            lambda: check_store(open_store(store)),
            lambda: check_cluster_file(cluster) if cluster else iter(()),
            lambda: check_working_directory(working_dir) if working_dir else iter(()),
            lambda: check_application(read_application(app), gpu, os.environ) if app else iter(()),
            lambda: check_cluster(address.rstrip("/"), os.environ) if address else iter(()),
        ):
            findings += _run(check)
        if as_json:
            print(json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False))
        else:
            _show(findings)
        if worst(findings) == "error":
            raise InputError("something will fail; see the lines marked error")


def _run(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except PlatformError as error:
        yield Finding("error", "preflight", str(error))


def _show(findings: list[Finding]) -> None:
    table = Table("", "check", "found")
    for finding in findings:
        table.add_row(f"[{COLOURS[finding.level]}]{finding.level}[/]", finding.check, finding.text)
    Console().print(table)
