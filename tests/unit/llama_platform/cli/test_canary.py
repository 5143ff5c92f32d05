import json
import threading

import pytest
from typer.testing import CliRunner

from artifact_folders import repository_of_versions
from llama_platform.artifacts.aliases import Aliases
from llama_platform.canary.conduct import Conductor
from llama_platform.cli import canary
from llama_platform.cli.main import build_cli
from llama_platform.errors import ConfigError, GateError, NotFoundError


@pytest.fixture
def repository(tmp_path, adapter_folder):
    repository = repository_of_versions(tmp_path, adapter_folder, 2)
    Aliases(repository, "adapter", "support").promote("production", 1)
    return repository


@pytest.fixture
def command(tmp_path):
    def command(*arguments):
        store = ["--store", (tmp_path / "store").as_uri()]
        done = CliRunner().invoke(build_cli(), ["canary", *arguments, *store], env={"COLUMNS": "150"})
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return command


def test_a_canary_is_started_shown_listed_and_stopped(repository, command):
    started = command("start", "support", "2", "--shares", "10,50", "--requests", "30", "--guards", "failed,slow")
    assert started.splitlines()[0] == "support@production: version 2 running, 10 % of the traffic, 0 requests"
    Conductor(repository, "support", "production").step()
    shown = command("status", "support")
    assert "answers that fail" in shown
    assert "0 of 0" in shown
    assert "running" in command("list")
    assert json.loads(command("status", "support", "--json"))["plan"]["guards"] == ["failed", "slow"]
    assert "stopped by hand" in command("stop", "support")
    assert "stopped" in command("list")


def test_wrong_plans_are_refused_by_the_name_of_what_is_wrong(repository, command):
    with pytest.raises(ConfigError, match=r"canary: shares\.0: .*less than or equal to 99"):
        command("start", "support", "2", "--shares", "100")
    with pytest.raises(ConfigError, match=r"canary: guards\.0: .*'failed'"):
        command("start", "support", "2", "--guards", "pretty")
    with pytest.raises(NotFoundError, match="never had a canary"):
        command("status", "support")


def test_following_waits_for_the_verdict_and_fails_without_a_promotion(repository, command, monkeypatch):
    monkeypatch.setattr(canary, "FOLLOWED_EVERY_S", 0.05)
    conductor = Conductor(repository, "support", "production")
    command("start", "support", "2")
    later = threading.Timer(0.3, conductor.refuse, ["it must not answer: broken"])
    later.start()
    with pytest.raises(GateError, match="support@2 is not promoted: it must not answer: broken"):
        command("status", "support", "--follow")
    later.join()
