import csv
import io
import json

import pytest
from typer.testing import CliRunner

from llama_platform.audit.journal import Journal
from llama_platform.cli.main import build_cli
from llama_platform.errors import InputError, IntegrityError, NotFoundError
from llama_platform.storage.open_store import open_store

FACTS = {
    "request": "r1", "tenant": "acme", "key": "0" * 12, "route": "/predict", "status": 200, "outcome": "length",
    "tokens": {"prompt_tokens": 5, "completion_tokens": 3}, "adapter": "support", "version": 2, "safety": {},
    "generations": [{"prompt_sha256": "x", "answer_sha256": "y", "sampling": {"temperature": 0}, "continues": False}],
}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    store = open_store(str(tmp_path / "store"))
    journal = Journal(tmp_path / "audit", "w1")
    journal.append("start", {"base": {"model": "tiny"}})
    journal.append("request", FACTS)
    journal.close(store)
    return store


@pytest.fixture
def run(store):
    def run(*arguments):
        done = CliRunner().invoke(build_cli(), [*arguments, "--store", store.root])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    return run


def test_a_whole_trail_is_verified_and_an_edited_one_is_not(run, store):
    assert run("audit", "verify") == "3 records in 1 chains\nnothing was edited, removed or moved\n"
    (key,) = store.list_keys("audit/")
    content = store.read(key).content
    store.delete(key)
    store.write(key, content.replace(b"acme", b"evil"))
    with pytest.raises(IntegrityError, match=r"w1: audit/.*jsonl:2: record 2 was edited"):
        run("audit", "verify")
    store.delete(key)
    store.write(key, content[: content.rstrip().rfind(b"\n") + 1])
    assert "1 chains have no end" in run("audit", "verify")


def test_a_request_is_shown_and_records_are_exported(run):
    assert json.loads(run("audit", "show", "r1"))["tenant"] == "acme"
    with pytest.raises(NotFoundError, match="knows no request 'r2'"):
        run("audit", "show", "r2")
    lines = [json.loads(line) for line in run("audit", "export").splitlines()]
    assert [line["kind"] for line in lines] == ["start", "request", "stop"]
    rows = list(csv.DictReader(io.StringIO(run("audit", "export", "--format", "csv"))))
    assert (rows[1]["tenant"], rows[1]["tokens"], rows[1]["adapter"]) == ("acme", "8", "support")
    assert run("audit", "export", "--from", "2020-01-01", "--to", "2020-01-02") == ""


def test_what_is_old_is_deleted_when_asked_for(run, store):
    assert run("audit", "prune", "--keep-days", "30").startswith("0 records are of days before")
    assert run("audit", "prune", "--keep-days", "30", "--yes").startswith("0 segments deleted")
    assert len(list(store.list_keys("audit/"))) == 1


def test_what_was_not_kept_cannot_be_replayed(run):
    with pytest.raises(InputError, match=r"r1: its prompt was not kept; audit\.content: full"):
        run("replay", "r1")
