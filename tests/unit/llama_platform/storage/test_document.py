import pytest
from pydantic import BaseModel

from llama_platform.errors import ConflictError, IntegrityError, NotFoundError
from llama_platform.storage.base import PreconditionFailedError
from llama_platform.storage.document import WRITE_TRIES, StoredDocument
from llama_platform.storage.open_store import open_store


class Counter(BaseModel):
    count: int = 0


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


@pytest.fixture
def document(store):
    return StoredDocument(store, "a/counter.json", Counter)


def more(counter):
    return Counter(count=counter.count + 1)


def test_what_was_never_written_is_the_default_and_changes_add_up(document):
    assert document.read() == Counter()
    with pytest.raises(NotFoundError):
        document.read_if_changed(None)
    document.update(more, "it")
    assert document.update(more, "it") == document.read() == Counter(count=2)
    found, etag = document.read_if_changed(None)
    assert found == Counter(count=2)
    assert document.read_if_changed(etag) is None


def test_a_change_of_nothing_writes_nothing(document, store):
    document.update(lambda counter: counter, "it")
    assert list(store.list_keys("")) == []


def test_somebody_elses_change_is_not_lost(document):
    raced = []

    def change(counter):
        if not raced:
            raced.append(document.update(more, "it"))
        return more(counter)

    assert document.update(change, "it") == Counter(count=2)


def test_whoever_never_wins_is_told(document, store, monkeypatch):
    def lost(*_, **__):
        raise PreconditionFailedError("x")

    monkeypatch.setattr(store, "write", lost)
    with pytest.raises(ConflictError, match=f"it changed {WRITE_TRIES} times in a row"):
        document.update(more, "it")


def test_a_damaged_document_is_named(document, store):
    store.write("a/counter.json", b"{")
    with pytest.raises(IntegrityError, match=r"counter\.json: damaged"):
        document.read()
