import re
from pathlib import Path

import pytest

from llama_platform.metrics import METRICS, SERVER_ERRORS

ROOT = Path(__file__).parents[3]


def test_every_name_stands_for_itself():
    assert all(name == metric.name and name.startswith("llama_") for name, metric in METRICS.items())
    assert all((metric.kind == "counter") == name.endswith("_total") for name, metric in METRICS.items())
    assert all(metric.text.endswith(".") for metric in METRICS.values())


def test_prometheus_names_follow_the_kind():
    assert METRICS["llama_running_requests"].series == ("ray_llama_running_requests",)
    assert METRICS["llama_queue_wait_seconds"].series[0] == "ray_llama_queue_wait_seconds_bucket"


def test_nothing_is_made_beside_the_catalogue():
    made = re.compile(r"(?<!_)(?:counter|gauge|histogram)\(\"(\w+)\"\)")
    found = {name for path in (ROOT / "serve_apps").rglob("*.py") for name in made.findall(path.read_text())}
    trained = {name for name in METRICS if name.startswith("llama_training_")}
    assert found | trained == set(METRICS)


@pytest.mark.parametrize("code", SERVER_ERRORS)
def test_what_counts_as_a_failure_of_the_server_is_a_code(code):
    errors = (ROOT / "platform/llama_platform/errors.py").read_text()
    assert f'code = "{code}"' in errors
