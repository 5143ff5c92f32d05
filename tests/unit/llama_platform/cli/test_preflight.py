import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llama_platform.cli.main import build_cli
from llama_platform.errors import InputError

ROOT = Path(__file__).parents[4]


@pytest.fixture
def run(tmp_path):
    def run(*arguments):
        store = ["--store", (tmp_path / "store").as_uri()]
        return CliRunner().invoke(build_cli(), ["preflight", *store, *arguments])

    return run


def test_what_will_work_is_told_line_by_line(run):
    done = run("--json", "--app", str(ROOT / "serve_apps/configs/local.yaml"), "--working-dir", str(ROOT / "jobs"))
    assert done.exit_code == 0, done.output
    checks = {finding["check"] for finding in json.loads(done.stdout)}
    assert {"versions", "store", "working directory", "base", "access"} <= checks


def test_what_will_fail_is_an_error(run):
    done = run("--cluster", str(ROOT / "cluster.yaml"))
    assert isinstance(done.exception, InputError)
    assert "MODEL_BUCKET" in done.output


def test_a_file_that_is_not_there_hides_no_other_line(run):
    done = run("--app", "/none.yaml", "--cluster", str(ROOT / "cluster.yaml"))
    assert "/none.yaml" in done.output
    assert "MODEL_BUCKET" in done.output
