import pytest

from llama_platform.errors import InputError
from rag.documents import load_documents


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.md").write_text("# A\n\ntext")
    (tmp_path / "sub/b.txt").write_bytes("\ufeffplain\u200b text".encode())
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\x00")
    (tmp_path / "fake.md").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "nul.txt").write_bytes(b"a\x00b")
    (tmp_path / "empty.md").write_text(" \n")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/x.md").write_text("no")
    return tmp_path


def test_reads_text_and_names_what_it_skips(folder):
    found = load_documents([str(folder)])
    assert [(d.id, d.markdown) for d in found.documents] == [("a.md", True), ("sub/b.txt", False)]
    assert found.documents[1].text == "plain  text"
    assert {s.id for s in found.skipped} == {"picture.png", "fake.md", "nul.txt", "empty.md"}
    assert any("UTF-8" in s.reason for s in found.skipped)


def test_a_missing_source_and_an_empty_folder_are_errors(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        load_documents([str(tmp_path / "none")])
    with pytest.raises(InputError, match="no documents in"):
        load_documents([str(tmp_path)])


def test_two_files_with_the_same_id_are_an_error(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "a.md").write_text("x")
    with pytest.raises(InputError, match="already read"):
        load_documents([str(folder), str(other)])
