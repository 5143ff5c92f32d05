"""`llama-platform usage`: what was used."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from llama_platform.access.usage import Prices, as_csv, read_usage
from llama_platform.cli.days import First, Last
from llama_platform.cli.stores import Store, open_store

Price = Annotated[float, typer.Option(min=0, help="price of 1,000 tokens")]


def add_usage(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @app.command("usage")
    def usage(
        tenant: Annotated[str | None, typer.Option(help="whose; all without it")] = None,
        first: First = None,
        last: Last = None,
        form: Annotated[Literal["table", "json", "csv"], typer.Option("--format")] = "table",
        prompt_price: Price = 0,
        completion_price: Price = 0,
        store: Store = None,
    ) -> None:
        """Show requests and tokens by day, tenant, key and adapter, of the last 30 days unless others are named."""
        end = (last or datetime.now(UTC)).date()
        begin = first.date() if first is not None else end - timedelta(days=29)
        prices = Prices(prompt_price, prompt_price, completion_price)
        rows = read_usage(open_store(store).store, begin, end, tenant, prices)
        if form == "json":
            print(json.dumps([row.model_dump(mode="json") for row in rows], indent=1))
        elif form == "csv":
            print(as_csv(rows), end="")
        else:
            table = Table(
                "day", "tenant", "key", "adapter", "requests", "failed", "prompt", "cached", "answers", "cost"
            )
            for row in rows:
                counts = (row.requests, row.failed, row.prompt_tokens, row.cached_tokens, row.completion_tokens)
                table.add_row(
                    str(row.day), row.tenant, row.key, row.adapter or "base", *map(str, counts), f"{row.cost:g}"
                )
            Console().print(table)
