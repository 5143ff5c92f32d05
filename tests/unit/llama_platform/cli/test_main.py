import json
import subprocess
import sys
from pathlib import Path

import pytest

from llama_platform.artifacts.location import StoreConfig, repository_from

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
