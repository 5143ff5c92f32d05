"""`llama-platform audit` and `replay`: who asked what, whether the trail is whole, and the same answers again."""

import csv
import json
import sys
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

import typer

from llama_platform.audit.acts import act_writer
from llama_platform.audit.trail import find_request, prune_trail, read_trail, verify_trail
from llama_platform.cli.days import First, Last
from llama_platform.cli.stores import Store, open_store
from llama_platform.errors import IntegrityError
from llama_platform.storage.base import ObjectStore

COLUMNS = ("time", "kind", "request", "tenant", "key", "method", "route", "path", "status", "outcome", "what", "who")


def audit_commands() -> typer.Typer:
    """Return the commands that verify, show, export and shorten the audit trail."""
    commands = typer.Typer(no_args_is_help=True, help="Verify, show, export and shorten the audit trail.")

    @commands.command("verify")
    def verify(store: Store = None) -> None:
        """Check that no record was edited, removed or moved; exit code 2 if one was."""
        _verify(open_store(store).store)

    @commands.command("show")
    def show(request_id: str, store: Store = None) -> None:
        """Show the records of the request REQUEST_ID, as its response's X-Request-ID says."""
        for record in find_request(open_store(store).store, request_id):
            print(json.dumps(record, indent=1, ensure_ascii=False))

    @commands.command("export")
    def export(
        first: First = None,
        last: Last = None,
        form: Annotated[Literal["jsonl", "csv"], typer.Option("--format")] = "jsonl",
        store: Store = None,
    ) -> None:
        """Write records to standard output, as JSON lines or CSV."""
        _export(read_trail(open_store(store).store, _day(first), _day(last)), form)

    @commands.command("prune")
    def prune(
        keep_days: Annotated[int, typer.Option("--keep-days", min=1, help="days that stay")],
        yes: Annotated[bool, typer.Option("--yes", help="delete, rather than tell how much")] = False,
        store: Store = None,
    ) -> None:
        """Delete what is older; what a bucket keeps locked stays."""
        opened, before = open_store(store).store, datetime.now(UTC).date() - timedelta(days=keep_days)
        if not yes:
            old = sum(1 for _ in read_trail(opened, None, before - timedelta(days=1)))
            print(f"{old} records are of days before {before}; --yes deletes them")
            return
        print(f"{len(prune_trail(opened, before, act_writer()))} segments deleted, of days before {before}")

    return commands


def add_replay(cli: typer.Typer) -> None:
    """Add the command to `cli`."""

    @cli.command("replay")
    def replay(request_ids: list[str], store: Store = None) -> None:
        """Answer audited requests again, with the adapters of then, and compare; exit code 2 where one differs.

        Needs `audit.content: full`, and answers at temperature 0 or with a seed.
        """
        # torch is imported by this command only.
        from llama_platform.evaluation.replay import replay_requests

        different = 0
        for report in replay_requests(open_store(store), request_ids):
            different += not report.same
            print(f"{report.request}  {'the same' if report.same else 'DIFFERENT'}")
            if not report.same:
                print(f"  then: {report.then!r}\n  now:  {report.now!r}")
        if different:
            raise IntegrityError(f"{different} of {len(request_ids)} requests are answered differently now")


def _verify(store: ObjectStore) -> None:
    chains = verify_trail(store)
    problems = [f"{chain.writer}: {problem}" for chain in chains for problem in chain.problems]
    unended = [chain.writer for chain in chains if chain.open]
    print(f"{sum(chain.records for chain in chains)} records in {len(chains)} chains")
    if unended:
        print(f"{len(unended)} chains have no end: their processes run, or were killed and wait for the next")
        print("\n".join(f"  {writer}" for writer in unended))
    if problems:
        raise IntegrityError("\n".join(["the trail is not whole:", *problems]))
    print("nothing was edited, removed or moved")


def _export(records: Iterable[dict[str, Any]], form: Literal["jsonl", "csv"]) -> None:
    if form == "jsonl":
        for record in records:
            print(json.dumps(record, ensure_ascii=False))
        return
    writer = csv.DictWriter(sys.stdout, [*COLUMNS, "adapter", "version", "tokens"], extrasaction="ignore")
    writer.writeheader()
    for record in records:
        tokens: dict[str, Any] = record.get("tokens") or {}
        writer.writerow({**record, "tokens": tokens.get("prompt_tokens", 0) + tokens.get("completion_tokens", 0)})


def _day(given: datetime | None) -> date | None:
    return given.date() if given is not None else None
