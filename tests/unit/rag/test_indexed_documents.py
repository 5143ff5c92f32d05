import pytest

from llama_platform.errors import IntegrityError
from rag.indexed_documents import DOCUMENTS_FILE, IndexedDocument, read_documents, write_documents


def test_a_list_comes_back_as_it_was_written(tmp_path):
    documents = [
        IndexedDocument("a.md", "Title", "0" * 64, 1, ("x",), "2026-01-02"),
        IndexedDocument("b.md", None, "1" * 64, 3, (), None),
    ]
    write_documents(documents, tmp_path)
    assert read_documents((tmp_path / DOCUMENTS_FILE).read_bytes()) == documents


def test_what_is_no_list_of_documents_is_refused():
    with pytest.raises(IntegrityError, match="not a list"):
        read_documents(b"garbage")
