from pathlib import Path

import pytest
import yaml

from llama_platform.errors import ConfigError
from serve_apps.config import parse_app_args

CONFIGS = Path(__file__).parents[3] / "serve_apps/configs"


def test_shipped_configurations_load_by_name_and_by_path():
    by_name = parse_app_args({"config": "app_local.yaml"})
    assert by_name == parse_app_args({"config": str(CONFIGS / "app_local.yaml")})
    assert (by_name.base.model, by_name.adapter, by_name.index) == ("tiny", "assistant", "docs")


def test_every_configuration_file_loads():
    files = sorted(CONFIGS.glob("*.yaml"))
    assert len(files) == 5
    for file in files:
        values = yaml.safe_load(file.read_text())
        for application in values.get("applications", [{"args": {"config": str(file)}}]):
            parse_app_args(application["args"])


def test_arguments_win_over_the_file_in_both_forms():
    from_command_line = parse_app_args({"config": "app_local.yaml", "llama.num_cpus": "2", "index": "null"})
    from_yaml = parse_app_args({"config": "app_local.yaml", "llama": {"num_cpus": 2}, "index": None})
    assert from_command_line == from_yaml
    assert (from_yaml.llama.num_cpus, from_yaml.llama.threads, from_yaml.index) == (2, 2, None)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"adaptor": "x"}, "did you mean 'adapter'"),
        ({"llama": {"min_replica": 1}}, "did you mean 'min_replicas'"),
        ({"config": "none.yaml"}, "no such configuration file"),
        ({"limits.request_timeout_s": "-1"}, "greater than 0"),
    ],
)
def test_wrong_arguments_are_named(args, words):
    with pytest.raises(ConfigError, match=words):
        parse_app_args(args)
