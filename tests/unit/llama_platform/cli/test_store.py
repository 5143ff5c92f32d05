import pytest
from typer.testing import CliRunner

from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.cli.main import build_cli
from llama_platform.errors import IntegrityError


@pytest.fixture
def repository(tmp_path):
    found = repository_from(StoreConfig(uri=(tmp_path / "store").as_uri(), cache=tmp_path / "cache"), {})
    (tmp_path / "content").mkdir()
    (tmp_path / "content/a.txt").write_text("a")
    found.publish("adapter", "support", tmp_path / "content", {})
    return found


def run(*arguments):
    return CliRunner().invoke(build_cli(), ["store", *arguments])


def test_a_store_is_copied_and_the_copy_is_whole(repository, tmp_path):
    copy = (tmp_path / "copy").as_uri()
    done = run("copy", repository.store.root, copy)
    assert "3 objects copied" in done.output
    assert "every file is what its manifest names" in run("verify", "--store", copy).output


def test_damage_is_an_error_that_names_the_file(repository):
    key = next(key for key in repository.store.list_keys("") if key.endswith("a.txt"))
    repository.store.write(key, b"b")
    done = run("verify", "--store", repository.store.root)
    assert isinstance(done.exception, IntegrityError)
    assert key in str(done.exception)
