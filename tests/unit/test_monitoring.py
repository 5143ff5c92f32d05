"""Dashboards, recording rules and alerts speak of metrics that there are, and of runbooks that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from llama_platform.metrics import METRICS, SERVER_ERRORS
from monitoring_files import MONITORING, alerts, dashboards, expressions

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs/operations.md").read_text()
SERIES = {series for metric in METRICS.values() for series in metric.series}
RECORDED = {
    rule["record"]
    for group in yaml.safe_load((MONITORING / "recording.yml").read_text())["groups"]
    for rule in group["rules"]
}


def anchors() -> set[str]:
    titles = re.findall(r"^#+ (.+)$", OPERATIONS, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_name_of_ours_is_in_the_catalogue():
    spoken = set(re.findall(r"ray_llama_\w+", "\n".join(expressions())))
    assert spoken <= SERIES


def test_every_metric_is_on_a_dashboard():
    spoken = "\n".join(expressions(alerting=False))
    assert [metric.name for metric in METRICS.values() if f"ray_{metric.name}" not in spoken] == []


def test_what_is_recorded_is_used_and_what_is_used_is_recorded():
    used = set(re.findall(r"llama:[a-z0-9_:]+", "\n".join(expressions(recording=False))))
    assert used <= RECORDED


def test_failures_of_the_server_are_those_of_the_catalogue():
    for found in re.findall(r'outcome=~"([^"]+)"', "\n".join(expressions())):
        assert tuple(found.split("|")) == SERVER_ERRORS


def test_every_alert_has_its_runbook_its_case_and_its_counterpart():
    cases = (MONITORING / "alerts_test.yml").read_text()
    for alert in alerts():
        page, _, anchor = alert["annotations"]["runbook"].partition("#")
        assert page == "docs/operations.md"
        assert anchor in anchors(), alert["alert"]
        assert cases.count(f'alertname="{alert["alert"]}"') == 2, alert["alert"]
        assert alert["labels"]["severity"] in ("page", "ticket")


def test_the_handbook_lists_every_metric():
    for metric in METRICS.values():
        assert f"`ray_{metric.name}`" in OPERATIONS, metric.name


def test_dashboards_can_be_imported():
    uids = []
    for path in dashboards():
        board = json.loads(path.read_text())
        uids.append(board["uid"])
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        assert all(panel["title"] and panel["targets"] for panel in board["panels"])
    assert len(set(uids)) == len(uids) >= 6


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (apt install prometheus)")
@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("check", "rules", "recording.yml", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
)
def test_promtool_agrees(command):
    done = subprocess.run(["promtool", *command], cwd=MONITORING, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
