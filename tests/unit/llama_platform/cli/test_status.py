import json

import pytest
from typer.testing import CliRunner

from artifact_folders import repository_of_versions
from llama_platform.artifacts.aliases import Aliases
from llama_platform.canary.conduct import Conductor
from llama_platform.canary.plan import CanaryPlan
from llama_platform.cli.main import build_cli
from llama_platform.errors import UnavailableError
from llama_platform.ports import free_port


@pytest.fixture
def status(tmp_path, adapter_folder):
    store = (tmp_path / "store").as_uri()
    repository = repository_of_versions(tmp_path, adapter_folder, 2)
    Aliases(repository, "adapter", "support").promote("production", 1)
    Conductor(repository, "support", "production").start(2, CanaryPlan(shares=(10,)))
    step = {"step": 3, "steps": 90, "loss": 1.5, "eta_s": 120.0}
    repository.store.write("runs/20260101-a/status.json", b'{"status": "running", "step": 3}')
    repository.store.write("runs/20260101-a/metrics.jsonl", json.dumps(step).encode() + b"\n")

    def status(*arguments):
        done = CliRunner().invoke(build_cli(), ["status", *arguments, "--store", store], env={"COLUMNS": "120"})
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return status


def test_all_is_in_one_screen(status):
    shown = status()
    assert "production → v1 90 % + v2 10 %" in shown
    assert "canary support@production: version 2 running" in shown
    assert "run 20260101-a: running, step 3 of 90, loss 1.500, 2 min to go" in shown
    assert "today: 0 requests" in shown
    assert len(shown.splitlines()) < 25


def test_the_same_is_there_for_programs(status):
    found = json.loads(status("--json"))
    assert found["adapters"] == [
        {"name": "support", "versions": 2, "newest": 2, "aliases": {"production": {"1": 90, "2": 10}}}
    ]
    assert (found["indexes"], found["runs"][0]["eta_s"], found["today"]["requests"]) == ([], 120.0, 0)


def test_an_application_that_does_not_answer_is_named(status):
    with pytest.raises(UnavailableError, match="does not answer as an application does"):
        status("--app", f"http://127.0.0.1:{free_port()}")
