from datetime import datetime

import typer
from typer.testing import CliRunner

from llama_platform.cli.days import First, Last


def test_days_are_dates_and_nothing_else():
    cli, seen = typer.Typer(), []

    @cli.command()
    def command(first: First = None, last: Last = None) -> None:
        seen.append((first, last))

    assert CliRunner().invoke(cli, ["--from", "2026-01-31"]).exit_code == 0
    assert seen == [(datetime(2026, 1, 31), None)]
    assert CliRunner().invoke(cli, ["--to", "yesterday"]).exit_code == 2
