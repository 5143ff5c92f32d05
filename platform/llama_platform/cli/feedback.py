"""`llama-platform feedback`: conversations that are kept, and what users say of them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from llama_platform.audit.acts import acted
from llama_platform.cli.stores import Store, open_store
from llama_platform.feedback.book import FeedbackBook

Tenant = Annotated[str | None, typer.Option("--tenant", help="whose; all without it")]
SHOWN_CHARS = 60


def feedback_commands() -> typer.Typer:
    """Return the commands that list, show and delete feedback."""
    commands = typer.Typer(no_args_is_help=True, help="List, show and delete conversations and opinions of them.")

    @commands.command("list")
    def list_feedback(
        tenant: Tenant = None,
        as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line, with all texts")] = False,
        store: Store = None,
    ) -> None:
        """List conversations that are kept, with what is said of them."""
        table = Table(
            Column("request", no_wrap=True), "tenant", "day", "answered by", "rating", "corrected", "question"
        )
        for entry in FeedbackBook(open_store(store).store).entries(tenant):
            asked, said = entry.conversation, entry.opinions
            if as_json:
                opinions = [one.model_dump(mode="json", exclude_none=True) for one in said]
                print(json.dumps(asked.model_dump(mode="json") | {"opinions": opinions}, ensure_ascii=False))
                continue
            ratings = ", ".join(one.rating for one in said if one.rating)
            corrected = "yes" if any(one.correction for one in said) else ""
            by = f"{asked.adapter}@{asked.version}" if asked.adapter else "base"
            question = " ".join(asked.messages[-1].content.split())[:SHOWN_CHARS]
            cells = (asked.request, asked.tenant, f"{asked.time:%Y-%m-%d}", by, ratings, corrected, question)
            table.add_row(*map(escape, cells))
        if not as_json:
            Console().print(table)

    @commands.command("forget")
    def forget(
        user: Annotated[str, typer.Option("--user", help="as clients named it in their requests")],
        tenant: Tenant = None,
        store: Store = None,
    ) -> None:
        """Delete all conversations of a user; datasets that were made of them are other artifacts."""
        opened = open_store(store).store
        count = FeedbackBook(opened).forget(user, tenant)
        acted(opened, "feedback.forget", tenant=tenant or "", conversations=count)
        print(f"{count} conversations are deleted")

    @commands.command("expire")
    def expire(
        days: Annotated[int, typer.Option("--older-than-days", min=0, help="days that conversations are kept")],
        tenant: Tenant = None,
        store: Store = None,
    ) -> None:
        """Delete conversations of more than so many days ago."""
        opened = open_store(store).store
        before = (datetime.now(UTC) - timedelta(days=days)).date()
        count = FeedbackBook(opened).expire(before, tenant)
        acted(opened, "feedback.expire", tenant=tenant or "", conversations=count)
        print(f"{count} conversations are deleted")

    return commands
