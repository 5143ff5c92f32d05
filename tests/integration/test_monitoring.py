"""Every expression of the dashboards and of the rules, asked of a Prometheus that scrapes a running application."""

import json
import shutil
import subprocess
from contextlib import suppress

import httpx
import pytest
import yaml

from llama_platform.ports import free_port
from monitoring_files import MONITORING, expressions
from ray_nodes import kill_group, wait_for

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="prometheus is not installed (apt install prometheus)"
    ),
]
UNSEEN = (
    "llama_training_", "llama_safety_actions_total", "probe_ssl_", "outcome!~", "llama_adapter_loads_total", "up{job",
    "[30d]", "absent(",
)  # fmt: skip
"""Parts of expressions that have no values where nothing has been trained, screened, failed, loaded or lost."""


@pytest.fixture(scope="module")
def prometheus(app, client, cluster, tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    for name in ("recording.yml", "alerts.yml"):
        shutil.copy(MONITORING / name, folder)
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
    config["scrape_configs"] = [{"job_name": "ray", "static_configs": [{"targets": cluster.metrics_targets()}]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:

        def scraped() -> bool:
            client.post("/predict", json={"prompt": "hello", "max_new_tokens": 4})
            client.post("/rag", json={"question": "How do I install the operator?", "max_new_tokens": 4})
            with suppress(httpx.HTTPError):
                return bool(query(url, "rate(ray_llama_completion_tokens_total[5m]) > 0"))
            return False

        wait_for(scraped, 120)
        yield url
    finally:
        kill_group(process)


def query(url: str, expression: str) -> list[dict]:
    answer = httpx.get(f"{url}/api/v1/query", params={"query": expression}, timeout=30).json()
    assert answer["status"] == "success", f"{expression}: {answer}"
    return answer["data"]["result"]


def test_every_expression_is_answered(prometheus):
    def empty() -> list[str]:
        return [
            expression
            for expression in expressions(alerting=False)
            if not query(prometheus, expression) and not any(part in expression for part in UNSEEN)
        ]

    wait_for(lambda: not empty(), 60, must=False)  # rates need two points, and rules a turn after that
    assert empty() == []


def test_no_alert_of_a_healthy_application_fires(prometheus):
    for group in httpx.get(f"{prometheus}/api/v1/rules", timeout=30).json()["data"]["groups"]:
        for rule in group["rules"]:
            assert rule["health"] in ("ok", "unknown"), json.dumps(rule)
            assert rule.get("state", "inactive") != "firing", json.dumps(rule)
