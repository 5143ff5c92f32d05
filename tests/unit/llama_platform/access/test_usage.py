from datetime import date, timedelta

import pytest

from llama_platform.access.usage import Prices, UsageBook, UsageCounts, UsageKey, as_csv, read_usage
from llama_platform.errors import IntegrityError, StorageError
from llama_platform.storage.open_store import open_store

DAY = date(2026, 1, 31)
KEY = UsageKey(DAY, "acme", "k1", "support")
ONE = UsageCounts(requests=1, prompt_tokens=1000, completion_tokens=500, cached_tokens=400)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def test_processes_write_for_themselves_and_are_added_up(store):
    for writer, times in (("a", 2), ("b", 3)):
        book = UsageBook(store, writer)
        for _ in range(times):
            book.add(KEY, ONE)
            book.write()  # again and again: the same document
        book.add(UsageKey(DAY + timedelta(days=1), "other", "k2", ""), UsageCounts(requests=1, failed=1))
        book.write()
    rows = read_usage(store, DAY, DAY + timedelta(days=1), prices=Prices(2, 1, 10))
    assert [(row.tenant, row.requests, row.failed, row.prompt_tokens) for row in rows] == [
        ("acme", 5, 0, 5000),
        ("other", 2, 2, 0),
    ]
    assert rows[0].cost == 5 * (0.6 * 2 + 0.4 * 1 + 0.5 * 10)
    assert [row.tenant for row in read_usage(store, DAY, DAY)] == ["acme"]
    assert read_usage(store, DAY, DAY, "other") == []
    assert read_usage(store, DAY, DAY - timedelta(days=1)) == []
    head, first, _ = as_csv(rows).splitlines()
    assert head == "day,tenant,key,adapter,requests,failed,prompt_tokens,completion_tokens,cached_tokens,cost"
    assert first == "2026-01-31,acme,k1,support,5,0,5000,2500,2000,33.0"


def test_what_cannot_be_written_is_written_the_next_time(store, monkeypatch):
    book = UsageBook(store, "a")
    book.add(KEY, ONE)

    def away(*_, **__):
        raise StorageError("away")

    with monkeypatch.context() as patched:
        patched.setattr(store, "write", away)
        with pytest.raises(StorageError):
            book.write()
    book.add(KEY, ONE)
    book.write()
    assert read_usage(store, DAY, DAY)[0].requests == 2


def test_days_that_are_over_are_kept_in_the_store_alone(store):
    book = UsageBook(store, "a")
    for day in range(5):
        book.add(KEY._replace(day=DAY + timedelta(days=day)), ONE)
        book.write()
    assert len(book._counts) == 2
    assert sum(row.requests for row in read_usage(store, DAY, DAY + timedelta(days=4))) == 5


def test_a_damaged_document_is_named(store):
    store.write("usage/2026-01-31/a.json", b"[{}]")
    with pytest.raises(IntegrityError, match=r"usage/2026-01-31/a.json: damaged"):
        read_usage(store, DAY, DAY)
