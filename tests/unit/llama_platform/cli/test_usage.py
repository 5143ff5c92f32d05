import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from llama_platform.access.usage import UsageBook, UsageCounts, UsageKey
from llama_platform.cli.main import build_cli
from llama_platform.storage.open_store import open_store

TODAY = datetime.now(UTC).date()


@pytest.fixture
def usage(tmp_path):
    book = UsageBook(open_store(str(tmp_path)), "a")
    counts = UsageCounts(requests=1, prompt_tokens=1000, completion_tokens=100)
    book.add(UsageKey(TODAY, "acme", "k1", "support"), counts)
    book.add(UsageKey(TODAY - timedelta(days=40), "other", "k2", ""), counts)
    book.write()

    def usage(*arguments):
        done = CliRunner().invoke(build_cli(), ["usage", *arguments, "--store", str(tmp_path)], env={"COLUMNS": "150"})
        assert done.exit_code == 0, done.output
        return done.output

    return usage


def test_what_was_used_is_shown_as_a_table_json_and_csv(usage):
    table = usage("--prompt-price", "2", "--completion-price", "10")
    assert "acme" in table
    assert "other" not in table  # forty days ago
    (row,) = json.loads(usage("--format", "json"))
    assert (row["key"], row["requests"], row["completion_tokens"]) == ("k1", 1, 100)
    first = f"{TODAY - timedelta(days=60):%Y-%m-%d}"
    rows = list(csv.DictReader(io.StringIO(usage("--format", "csv", "--from", first, "--completion-price", "10"))))
    assert [(one["tenant"], one["adapter"], one["cost"]) for one in rows] == [
        ("other", "", "1.0"),
        ("acme", "support", "1.0"),
    ]
    assert json.loads(usage("--tenant", "nobody", "--format", "json")) == []
