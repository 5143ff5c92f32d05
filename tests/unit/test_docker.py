"""The Dockerfile and what stands around it, as far as can be told without building."""

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "platform/docker/Dockerfile").read_text()


def test_hadolint_finds_nothing():
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", "platform/docker/Dockerfile"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_only_what_the_image_needs_is_sent_to_its_build():
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert (ROOT / ".dockerignore").read_text().startswith("*\n")
    assert all((ROOT / name).exists() for name in kept)
    copied = [
        word
        for line in DOCKERFILE.splitlines()
        if line.startswith("COPY") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert set(copied) == set(kept)


def test_compose_is_closed_where_it_can_be():
    services = yaml.safe_load((ROOT / "platform/docker/compose.yaml").read_text())["services"]
    assert set(services) == {"platform", "redis", "prometheus"}
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert "limits.storage=redis://redis:6379/0" in services["platform"]["command"]


def test_what_prometheus_of_compose_reads_is_there():
    config = yaml.safe_load((ROOT / "platform/monitoring/prometheus.yml").read_text())
    assert all((ROOT / "platform/monitoring" / name).is_file() for name in config["rule_files"])
    targets = [t for job in config["scrape_configs"] for c in job.get("static_configs", []) for t in c["targets"]]
    assert targets == ["platform:8080"]
