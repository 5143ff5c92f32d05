from datetime import date

import pytest

from llama_platform.audit import records
from llama_platform.audit.journal import Journal
from llama_platform.audit.trail import find_request, prune_trail, read_trail, start_of, verify_trail
from llama_platform.errors import NotFoundError
from llama_platform.storage.open_store import open_store


class Days:
    """A clock of days."""

    day = 1

    @classmethod
    def now(cls, zone):
        from datetime import datetime

        return datetime(2026, 1, cls.day, tzinfo=zone)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A chain of six records, two on each of three days, and its end."""
    monkeypatch.setattr(records, "datetime", Days)
    store, journal = open_store(str(tmp_path / "store")), Journal(tmp_path / "audit", "w-1")
    for day in (1, 2, 3):
        Days.day = day
        journal.append("start" if day == 1 else "request", {"request": f"a{day}"})
        journal.append("request", {"request": f"b{day}"})
        journal.commit(store)
    journal.close(store)
    return store


def keys(store):
    return list(store.list_keys("audit/"))


def change(store, number, change):
    """Change the lines of a segment."""
    key = keys(store)[number]
    lines = store.read(key).content.splitlines(keepends=True)
    content = b"".join(change(lines))
    store.delete(key)
    if content:
        store.write(key, content)


def problems(store):
    return [problem for chain in verify_trail(store) for problem in chain.problems]


def test_a_whole_trail_has_no_problems(store):
    assert problems(store) == []
    assert [record["seq"] for record in read_trail(store, date(2026, 1, 2), date(2026, 1, 2))] == [3, 4]
    assert [record["seq"] for record in find_request(store, "b2")] == [4]
    assert start_of(store, "w-1")["request"] == "a1"
    assert start_of(store, "w-2") is None
    with pytest.raises(NotFoundError, match="knows no request 'x'"):
        find_request(store, "x")


@pytest.mark.parametrize(
    ("number", "how", "said"),
    [
        (1, lambda lines: [lines[0].replace(b"a2", b"a9"), lines[1]], "record 3 was edited"),
        (1, lambda lines: [lines[0]], "record 5 follows record 3"),
        (1, lambda lines: [lines[1]], "record 4 follows record 2"),
        (1, lambda lines: lines[::-1], "record 4 follows record 2"),
        (1, lambda lines: [], "record 5 follows record 2"),
        (0, lambda lines: [], "record 3 follows record 0"),
        (1, lambda lines: [lines[0], lines[0], lines[1]], "record 3 follows record 3"),
        (1, lambda lines: [b"{}\n", *lines], "no record of the audit trail"),
        (0, lambda lines: [lines[0].replace(b'"w-1"', b'"w-2"'), lines[1]], "a record of another segment"),
    ],
)
def test_what_was_edited_removed_or_moved_is_found(store, number, how, said):
    change(store, number, how)
    assert any(said in problem for problem in problems(store)), problems(store)


def test_an_edited_record_with_a_new_hash_breaks_the_one_behind_it(store):
    import json

    def edited(lines):
        record = json.loads(lines[0])
        previous = json.loads(store.read(keys(store)[0]).content.splitlines()[-1])["hash"]
        record["request"] = "forged"
        record["hash"] = records.hash_of(record, previous)
        return [records.to_line(record), lines[1]]

    change(store, 1, edited)
    assert any("record 4 was edited, or the one before it" in problem for problem in problems(store))


def test_a_chain_whose_end_was_removed_is_open(store):
    change(store, -1, lambda lines: [])
    (chain,) = verify_trail(store)
    assert (chain.open, chain.problems) == (True, ())


def test_days_that_were_deleted_by_age_are_no_problem_and_their_deletion_is_recorded(store):
    Days.day = 20
    assert len(prune_trail(store, date(2026, 1, 2), "cli-1")) == 1
    assert problems(store) == []
    assert prune_trail(store, date(2026, 1, 2), "cli-2") == []
    store.delete(keys(store)[0])  # one more, by hand
    assert problems(store) != []
