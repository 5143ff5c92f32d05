import json
import subprocess
import sys
from pathlib import Path

import pytest

from llama_platform.artifacts.aliases import AliasDocument
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.errors import UnavailableError

PROGRAM = str(Path(sys.executable).parent / "llama-platform")


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "content"
    folder.mkdir()
    (folder / "a.json").write_text("{}")
    repository = repository_from(StoreConfig(uri=str(tmp_path / "store"), cache=tmp_path / "cache"), {})
    for kind, name in (("adapter", "support"), ("index", "docs")):
        for n in range(2):
            repository.publish(kind, name, folder, {"n": n})

    def run(*arguments):
        command = [PROGRAM, *arguments, "--store", str(tmp_path / "store")]
        return subprocess.run(command, capture_output=True, text=True)

    return run


def test_promote_split_rollback_and_list(run):
    assert "support@production → v1 (generation 1)" in run("adapters", "promote", "support", "1").stdout
    assert "v1 90 %, v2 10 %" in run("adapters", "split", "support", "1=90", "2=10").stdout
    assert "v1 (generation 3)" in run("adapters", "rollback", "support").stdout
    assert "docs@blue → v2" in run("indexes", "promote", "docs", "2", "--alias", "blue").stdout
    listed = run("adapters", "list").stdout
    assert "support" in listed
    assert "production → v1" in listed
    assert json.loads(run("indexes", "show", "docs@blue").stdout)["version"] == 2


def test_prune_shows_first_and_deletes_when_asked(run):
    arguments = ("prune", "--keep", "1", "--older-than-days", "0")
    assert run("adapters", "promote", "support", "1").returncode == 0
    shown = run(*arguments).stdout
    assert ("docs@1" in shown, "support@1" in shown) == (True, False)
    assert "nothing was deleted; run it again with --delete" in shown
    assert "docs@1" in run(*arguments, "--delete").stdout
    assert "docs@1" not in run(*arguments).stdout
    assert run("indexes", "show", "docs@1").returncode == 2
    assert run("adapters", "show", "support@1").returncode == 0


def test_fit_shows_what_has_room_and_says_what_has_not():
    done = subprocess.run([PROGRAM, "fit", "--base", "7b", "--gpu", "A10G"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "requests of 4096 tokens at the same time: 1" in done.stdout
    done = subprocess.run([PROGRAM, "fit", "--base", "70b", "--gpu", "24"], capture_output=True, text=True)
    assert (done.returncode, "no request of 4,096 tokens fits" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("adapters", "promote", "support", "9"), "no version 9; versions: 1, 2"),
        (("adapters", "rollback", "support"), "nothing to roll back to"),
        (("adapters", "split", "support", "1:2"), "expected VERSION=WEIGHT"),
        (("adapters", "show", "support@blue"), "no alias 'blue'"),
        (("adapters", "export", "../x", "out"), "not allowed"),
        (("adapters", "import", "new", "/nonexistent"), "no such folder"),
    ],
)
def test_errors_are_one_text_and_exit_code_2(run, arguments, words):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_store_is_an_error(run):
    done = subprocess.run([PROGRAM, "adapters", "list", "--store", "ftp://x"], capture_output=True, text=True)
    assert (done.returncode, "unknown scheme 'ftp'" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("s3:/bucket", "write s3://bucket"),
        ("file:/folder", "write file://folder"),
        ("/nowhere/at/all", "file:///nowhere/at/all: holds no store"),
    ],
)
def test_a_store_that_is_mistyped_or_not_there_is_no_empty_table(store, words):
    done = subprocess.run([PROGRAM, "adapters", "list", "--store", store], capture_output=True, text=True)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_promotion_says_when_no_application_follows(run, monkeypatch):
    import llama_platform.cli.main as module

    monkeypatch.setattr(module, "FOLLOWED_S", 0.2)
    with pytest.raises(
        UnavailableError, match=r"has been changed, but http://127\.0\.0\.1:9 has not followed .*answer"
    ):
        module._wait_until_followed("http://127.0.0.1:9", "support", AliasDocument(generation=3))
