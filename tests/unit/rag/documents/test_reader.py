"""The reader and its process, with real crashes, loops and bombs."""

from rag.documents.document import Skipped
from rag.documents.sources import SourceFile, list_sources


def test_a_folder_is_read_and_cut_and_what_is_none_is_named(reader, tmp_path):
    (tmp_path / "a.md").write_text("# Tea\n\nGreen tea needs water of eighty degrees.\n")
    (tmp_path / "b.csv").write_text("text\nCoffee.\n \n")
    (tmp_path / "c.png").write_bytes(b"\x89PNG")
    (tmp_path / "d.md").write_text("# Only a heading\n")
    found = [item for file in list_sources([str(tmp_path)]) for item in reader.read(file)]
    documents = {item.document.id: item for item in found if not isinstance(item, Skipped)}
    (coffee,) = [name for name in documents if name.startswith("b.csv#")]
    assert {name: len(item.chunks) for name, item in documents.items()} == {"a.md": 1, coffee: 1, "d.md": 1}
    assert documents["d.md"].chunks[0].text == "# Only a heading"
    assert documents["a.md"].chunks[0].text == "Green tea needs water of eighty degrees."
    assert {item.id for item in found if isinstance(item, Skipped)} == {"b.csv#row 2", "c.png"}


def test_names_that_are_no_ids_are_skipped(reader, tmp_path):
    (tmp_path / "a\x07.md").write_text("Tea.")
    (found,) = [item for file in list_sources([str(tmp_path)]) for item in reader.read(file)]
    assert "cannot name a document" in found.reason


def test_a_file_that_has_gone_is_skipped(reader, tmp_path):
    (found,) = reader.read(SourceFile("a.md", str(tmp_path), "a.md"))
    assert "cannot be read" in found.reason
