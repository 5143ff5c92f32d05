import os
from pathlib import Path

import pytest

from llama_platform.errors import InputError
from llama_platform.storage.regular_files import LINK, NO_FILE, list_files, open_file


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub/b.txt").write_text("b")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/s.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret/s.txt")
    (folder / "links").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe.txt")
    return folder


def test_only_regular_files_may_be_read_and_the_others_are_named(folder):
    found = {path.relative_to(folder).as_posix(): problem for path, problem in list_files(folder)}
    assert found == {"a.txt": None, "sub/b.txt": None, "link.txt": LINK, "links": LINK, "pipe.txt": NO_FILE}


def test_folders_can_be_left_out(folder):
    assert not [path for path, _ in list_files(folder, {"sub"}) if path.name == "b.txt"]


@pytest.mark.parametrize(
    ("name", "words"), [("link.txt", "a link"), ("pipe.txt", "neither a file"), ("sub", "neither")]
)
def test_what_is_no_file_is_refused_at_once_when_opened(folder, name, words):
    with pytest.raises(InputError, match=words):
        open_file(folder / name)
    with open_file(folder / "a.txt") as file:
        assert file.read() == b"a"


def test_what_vanishes_during_a_listing_is_left_out(folder, monkeypatch):
    lstat = Path.lstat

    def vanish(path):
        if path.name == "a.txt":
            path.unlink(missing_ok=True)
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", vanish)
    assert "a.txt" not in {path.name for path, _ in list_files(folder)}


def test_a_folder_that_cannot_be_read_is_named(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = dict(list_files(folder))
    assert found[folder / "sub"] == "cannot be read: Permission denied"
