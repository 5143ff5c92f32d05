import pytest

from llama_platform.errors import InputError
from rag.documents.sources import list_sources, local_copy


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "docs"
    for name in ("a.md", "sub/b.txt", ".git/x.md", "node_modules/y.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_files_are_listed_by_id_without_tools_folders(folder):
    assert [file.id for file in list_sources([str(folder)])] == ["a.md", "sub/b.txt"]
    (only,) = list_sources([str(folder / "sub/b.txt")])
    assert only.id == "b.txt"
    with local_copy(only) as path:
        assert path.read_text() == "sub/b.txt"


def test_a_prefix_of_a_store_is_listed_like_a_folder(folder):
    files = list_sources([folder.as_uri()])
    assert {"a.md", "sub/b.txt"} <= {file.id for file in files}
    file = next(file for file in files if file.id == "a.md")
    with pytest.raises(InputError, match="4 bytes, over the limit of 3"), local_copy(file, 3):
        pass
    with local_copy(file, 4) as path:
        assert (path.read_text(), path.suffix) == ("a.md", ".md")
        assert path != folder / "a.md"
    assert not path.exists()


def test_links_out_of_the_folder_are_not_followed(folder, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key.md").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    assert "link/key.md" not in [file.id for file in list_sources([str(folder)])]


def test_missing_sources_and_equal_ids_are_errors(folder, tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        list_sources([str(tmp_path / "none")])
    with pytest.raises(InputError, match="no objects"):
        list_sources([(tmp_path / "none").as_uri()])
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.md").write_text("x")
    with pytest.raises(InputError, match="already found"):
        list_sources([str(folder), str(tmp_path / "other")])


def test_objects_of_s3_are_documents(s3_uri):
    from llama_platform.storage.open_store import open_store

    store = open_store(s3_uri)
    for key in ("docs/a.md", "docs/sub/b.md", "docs-other/c.md"):
        store.write(key, key.encode())
    store._client.put_object(
        Bucket=store._bucket, Key=store._key("docs") + "/folder/", Body=b""
    )  # as consoles make them
    files = list_sources([f"{s3_uri}/docs"])
    assert [file.id for file in files] == ["a.md", "sub/b.md"]
    with local_copy(files[1]) as path:
        assert path.read_text() == "docs/sub/b.md"
    assert [file.id for file in list_sources([f"{s3_uri}/docs/a.md"])] == ["a.md"]
