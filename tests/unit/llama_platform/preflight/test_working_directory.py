import pytest

from llama_platform.preflight import working_directory
from llama_platform.preflight.working_directory import check_working_directory


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/large.bin").write_bytes(b"0" * 3_000_000)
    (tmp_path / "small.py").write_text("x")
    return tmp_path


def test_what_is_small_is_well(folder):
    (finding,) = check_working_directory(folder)
    assert (finding.level, finding.text) == ("ok", "3.0 MB in 2 files")


@pytest.mark.parametrize(("bound", "level"), [("LARGE_MB", "warning"), ("MOST_MB", "error")])
def test_the_largest_files_are_named(folder, monkeypatch, bound, level):
    monkeypatch.setattr(working_directory, bound, 2)
    (finding,) = check_working_directory(folder)
    assert finding.level == level
    assert "sub/large.bin (3.0 MB)" in finding.text


@pytest.mark.parametrize("file", [".rayignore", ".gitignore"])
def test_what_ray_leaves_out_does_not_count(folder, file):
    (folder / file).write_text("sub\n")
    (finding,) = check_working_directory(folder)
    assert finding.text.startswith("0.0 MB")


def test_a_folder_that_is_not_there(tmp_path):
    (finding,) = check_working_directory(tmp_path / "none")
    assert finding.level == "error"
