"""What Prometheus and Grafana are asked by the files of platform/monitoring."""

import json
from pathlib import Path

import yaml

MONITORING = Path(__file__).parents[2] / "platform/monitoring"
TEXTS = {"price_prompt": "0.001", "price_completion": "0.002", "price_node_hour": "1.2"}
"""Values of the dashboards' text boxes."""


def dashboards() -> list[Path]:
    return sorted((MONITORING / "grafana").glob("*.json"))


def rules(file: str) -> list[dict]:
    return [rule for group in yaml.safe_load((MONITORING / file).read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict]:
    return rules("alerts.yml")


def expressions(alerting: bool = True, recording: bool = True) -> list[str]:
    found = [
        target["expr"]
        for path in dashboards()
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
    ]
    found += [rule["expr"] for rule in alerts()] if alerting else []
    found += [rule["expr"] for rule in rules("recording.yml")] if recording else []
    for name, value in TEXTS.items():
        found = [expression.replace(f"${name}", value) for expression in found]
    return found
