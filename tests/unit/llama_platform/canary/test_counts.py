import pytest

from llama_platform.canary.counts import (
    ArmCounts,
    Histogram,
    Observation,
    SplitBook,
    SplitKey,
    counts_folder,
    read_counts,
    upper_bound,
)
from llama_platform.errors import IntegrityError, StorageError
from llama_platform.storage.open_store import open_store

SPLIT = SplitKey("assistant", "production", 4)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path.as_uri())


def test_what_processes_counted_is_added_up(store):
    for process in ("a", "b"):
        book = SplitBook(store, process)
        book.observe(SPLIT, 1, Observation(first_token_ms=40, answer_tokens=9))
        book.observe(SPLIT, 2, Observation(failed=True))
        book.disliked(SPLIT, 2)
        book.write()
    found = read_counts(store, SPLIT)
    assert (found[1].requests, found[1].failed, found[1].first_token_ms.total) == (2, 0, 2)
    assert (found[2].requests, found[2].failed, found[2].disliked) == (2, 2, 2)


def test_generations_are_counted_apart_and_what_comes_late_is_added(store):
    book = SplitBook(store, "a")
    for generation in range(3, 9):
        book.observe(SPLIT._replace(generation=generation), 1, Observation())
        book.write()
    book.disliked(SPLIT._replace(generation=3), 1)
    book.write()
    late = read_counts(store, SPLIT._replace(generation=3))[1]
    assert (late.requests, late.disliked) == (1, 1)
    assert [read_counts(store, SPLIT._replace(generation=g))[1].requests for g in range(3, 9)] == [1] * 6


def test_what_could_not_be_written_is_written_the_next_time(store, monkeypatch):
    book = SplitBook(store, "a")
    book.observe(SPLIT, 1, Observation())
    with monkeypatch.context() as patch:

        def away(*_, **__):
            raise StorageError("away")

        patch.setattr(type(store), "write", away)
        with pytest.raises(StorageError):
            book.write()
    book.observe(SPLIT, 1, Observation())
    book.write()
    assert read_counts(store, SPLIT)[1].requests == 2


def test_damage_is_named(store):
    store.write(f"{counts_folder(SPLIT)}a.json", b"[]")
    with pytest.raises(IntegrityError, match="damaged"):
        read_counts(store, SPLIT)


def test_buckets_grow_by_the_root_of_two():
    histogram = Histogram()
    for value in (0.2, 1, 10, 100, 100, 1000):
        histogram.add(value)
    half = histogram.quantile(0.5)
    assert upper_bound(half) / 2**0.5 <= 100 <= upper_bound(half) or upper_bound(half) > 10
    assert histogram.above(histogram.quantile(1.0)) == 0
    assert histogram.above(-1) == histogram.total == 6
    assert Histogram().quantile(0.9) == 0


def test_counts_of_their_own_begin_empty():
    one = ArmCounts()
    one.first_token_ms.add(5)
    assert ArmCounts().first_token_ms.total == 0
