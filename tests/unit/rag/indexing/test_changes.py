import pytest

from llama_platform.errors import InputError, NotFoundError
from rag.documents.sources import list_sources, local_copy
from rag.indexing.changes import discard_change, read_change, store_change


def test_a_change_waits_with_its_documents_until_it_is_discarded(repository):
    change_id = store_change(repository, "docs", [("guide/a.md", b"# A"), ("b.csv", b"x")], ["\U0001f600.md"], "live")
    change, sources = read_change(repository, "docs", change_id)
    assert (change.uploaded, change.delete, change.promote) == (2, ("\U0001f600.md",), "live")
    files = list_sources(sources)
    assert [file.id for file in files] == ["b.csv", "guide/a.md"]
    with local_copy(files[1]) as path:
        assert path.read_bytes() == b"# A"
    discard_change(repository, "docs", change_id)
    assert list(repository.store.list_keys("changes/")) == []
    with pytest.raises(NotFoundError):
        read_change(repository, "docs", change_id)


def test_without_documents_there_are_no_sources(repository):
    assert read_change(repository, "docs", store_change(repository, "docs", delete=["a.md"]))[1] == ()


@pytest.mark.parametrize("name", ["../a.md", "/a.md", "a.exe", "a", "", "a\x00.md"])
def test_what_cannot_be_a_document_is_refused_and_nothing_written(repository, name):
    with pytest.raises(InputError):
        store_change(repository, "docs", [("good.md", b"x"), (name, b"x")])
    assert list(repository.store.list_keys("changes/")) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"index": "../x"}, "not allowed"),
        ({"index": "docs", "promote": "12"}, "all digits"),
        ({"index": "docs", "promote": "No Alias"}, "not allowed"),
        ({"index": "docs", "files": [("a.md", b"1"), ("a.md", b"2")]}, "twice"),
    ],
)
def test_names_that_are_not_allowed_are_refused(repository, arguments, words):
    with pytest.raises(InputError, match=words):
        store_change(repository, **arguments)
