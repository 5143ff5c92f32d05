"""`llama-platform compare`: the same prompts answered by several adapters, side by side."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llama_platform.cli.stores import Store, open_store


def add_compare(cli: typer.Typer) -> None:
    """Add the command to `cli`."""

    @cli.command("compare")
    def compare(
        refs: Annotated[list[str], typer.Argument(help="NAME, NAME@ALIAS, NAME@VERSION or base; two at least")],
        prompts: Annotated[Path, typer.Option("--prompts", help="a prompt a line, or .jsonl with `prompt`")],
        output: Annotated[
            Path | None, typer.Option("--output", help="write a page, .html, or all of it, .json")
        ] = None,
        base: Annotated[str | None, typer.Option("--base", help="base to load; the first adapter's without it")] = None,
        max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1)] = 128,
        store: Store = None,
    ) -> None:
        """Answer prompts with each adapter, greedily, on this machine's CPU, and show the answers side by side."""
        # torch is imported by this command only.
        from llama_platform.cli.quiet import quiet_libraries
        from llama_platform.evaluation.side_by_side import answer_side_by_side, page, read_prompts

        quiet_libraries()
        asked = read_prompts(prompts)
        found = answer_side_by_side(open_store(store), refs, asked, max_new_tokens, base)
        table = Table("prompt", *found.labels)
        for line in found.lines:
            table.add_row(escape(line.prompt), *(escape(answer.text) for answer in line.answers))
        Console(highlight=False).print(table)
        for row in found.summary():
            print("  ".join(f"{name} {value:.3g}" if name != "adapter" else value for name, value in row.items()))
        if output is None:
            return
        text = page(found)
        if output.suffix == ".json":
            text = json.dumps({"summary": found.summary(), **asdict(found)}, indent=1, ensure_ascii=False)
        output.write_text(text, encoding="utf-8")
        print(f"written to {output}")
