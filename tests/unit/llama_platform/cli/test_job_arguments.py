import pytest

from llama_platform.cli.job_arguments import parse_job_args
from llama_platform.config import Config
from llama_platform.errors import ConfigError


class Job(Config):
    steps: int = 1
    name: str = "a"


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path, monkeypatch):
    file = tmp_path / "job.yaml"
    file.write_text("steps: 2\nname: b\n")
    assert parse_job_args(Job, "", []) == Job()
    assert parse_job_args(Job, "", ["--config", str(file)]) == Job(steps=2, name="b")
    monkeypatch.setenv("LLAMA_PLATFORM_STEPS", "3")
    assert parse_job_args(Job, "", ["--config", str(file)]).steps == 3
    assert parse_job_args(Job, "", ["--config", str(file), "--set", "steps=4", "--set", "name=c"]) == Job(
        steps=4, name="c"
    )


def test_a_wrong_key_is_named_and_a_wrong_option_ends_the_program():
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        parse_job_args(Job, "", ["--set", "step=4"])
    with pytest.raises(SystemExit):
        parse_job_args(Job, "", ["--nonsense"])
