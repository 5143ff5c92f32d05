"""One Ray cluster with token authentication for all integration tests, and a store that its jobs fill."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import torch
import yaml

from artifact_folders import fetched_folder
from llama_platform.ports import free_port
from ray_nodes import kill_group
from served_app import ADMIN_TOKEN, ServedApp

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Cluster:
    dashboard: str
    environment: dict[str, str]
    token: str
    folder: Path

    def run(self, *command: str, timeout: float = 480) -> subprocess.CompletedProcess:
        """Run a command of the virtual environment as a user of the cluster would, from the repository root."""
        program = [str(BIN / command[0]), *command[1:]]
        return subprocess.run(program, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout)

    def get(self, path: str, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return httpx.get(self.dashboard + path, headers=headers, timeout=30)

    def metrics_targets(self) -> list[str]:
        """Return the addresses that Ray writes down for Prometheus."""
        content = json.loads((self.folder / "prom_metrics_service_discovery.json").read_text())
        return [target for entry in content for target in entry["targets"]]

    def gauge(self, name: str, **tags: str) -> list[str]:
        """Return the lines of a gauge as Prometheus would scrape them now."""
        lines = "".join(httpx.get(f"http://{t}/metrics", timeout=10).text for t in self.metrics_targets()).splitlines()
        wanted = [f'{key}="{value}"' for key, value in tags.items()]
        return [line for line in lines if line.startswith(name + "{") and all(tag in line for tag in wanted)]


@pytest.fixture(scope="session")
def cluster():
    # A short path: the sockets in it may have 107 characters at most.
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    token, port, dashboard_port = secrets.token_hex(16), free_port(), free_port()
    dashboard = f"http://127.0.0.1:{dashboard_port}"
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",  # jobs say `python`
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
        "RAY_ADDRESS": dashboard,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_JOB_STOP_WAIT_TIME_S": "10",
        "HF_HUB_OFFLINE": "1",
        # The machine seems to have a GPU that Ray has assigned to nobody: whoever touches it fails.
        "PYTHONPATH": str(ROOT / "tests/helpers/nobodys_gpu"),
    }
    command = [
        str(BIN / "ray"), "start", "--head", "--block", f"--port={port}", "--num-cpus=4", f"--temp-dir={folder}",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}", "--object-store-memory=200000000",
        "--dashboard-agent-listen-port=0", f"--ray-client-server-port={free_port()}",
        "--node-ip-address=127.0.0.1",
    ]  # fmt: skip
    starting = {key: value for key, value in environment.items() if key != "RAY_ADDRESS"}
    with (
        Path(folder, "start.log").open("w") as log,
        subprocess.Popen(command, env=starting, stdout=log, stderr=log, start_new_session=True) as process,
    ):
        found = Cluster(dashboard, environment, token, Path(folder))
        deadline = time.monotonic() + 60
        while True:
            try:
                if found.get("/api/version").status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                pytest.fail(f"ray start failed: {Path(folder, 'start.log').read_text()[-2000:]}")
            time.sleep(0.3)
        yield found
        kill_group(process)  # asked to end, it takes half a minute
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def nobodys_gpu(monkeypatch):
    """Make this process believe in a GPU that is not its own, as the cluster's processes do."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """URI of a store and folder of a cache."""
    folder = tmp_path_factory.mktemp("platform")
    return (folder / "store").as_uri(), folder / "cache"


@pytest.fixture(scope="session")
def repository(store):
    from llama_platform.artifacts.location import StoreConfig, repository_from

    return repository_from(StoreConfig(uri=store[0], cache=store[1]), {})


SUBMIT = ("ray", "job", "submit", "--working-dir", ".", "--runtime-env", "jobs/runtime_env.yaml")


@pytest.fixture(scope="session")
def overrides(store):
    """Return `--set` arguments that name the store, and others."""

    def overrides(**settings: object) -> list[str]:
        settings = {"store.uri": store[0], "store.cache": store[1], **settings}
        return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]

    return overrides


@pytest.fixture(scope="session")
def submit(cluster, overrides):
    """Submit a job from the repository root with the development overlay; return its finished process."""

    def submit(*entrypoint: str, **settings: object) -> subprocess.CompletedProcess:
        tail = [] if entrypoint[1] == "-c" else overrides(**settings)
        return cluster.run(*SUBMIT, "--", *entrypoint, *tail)

    return submit


@pytest.fixture(scope="session")
def start(cluster, overrides):
    """Submit a job and return its id at once."""

    def start(*entrypoint: str, **settings: object) -> str:
        job = f"job-{secrets.token_hex(4)}"
        done = cluster.run(*SUBMIT, "--no-wait", "--submission-id", job, "--", *entrypoint, *overrides(**settings))
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return job

    return start


@pytest.fixture(scope="session")
def trained(submit):
    """A dataset and an adapter, made by jobs on the cluster: (prepare_data's process, finetune's process)."""
    config = ("--config", "jobs/configs/tiny_lora_cpu.yaml")
    prepared = submit("python", "-m", "jobs.prepare_data", *config, **{"data.max_chats": 60})
    assert prepared.returncode == 0, prepared.stdout[-3000:] + prepared.stderr[-2000:]
    settings = {"training.max_steps": 6, "training.checkpoint_every": 3, "training.run_id": "it-1"}
    finetuned = submit("python", "-m", "jobs.finetune", *config, **settings)
    assert finetuned.returncode == 0, finetuned.stdout[-3000:] + finetuned.stderr[-2000:]
    return prepared, finetuned


@pytest.fixture(scope="session")
def versions(trained, repository, tmp_path_factory):
    """Two adapter versions, the first in production, and an index of two documents."""
    import torch
    from safetensors.torch import load_file, save_file

    from llama_platform.artifacts.aliases import Aliases

    first = repository.version("adapter", "assistant", 1)
    folder = tmp_path_factory.mktemp("second") / "adapter"
    folder.mkdir()
    for path in fetched_folder(repository, first).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "adapter_model.safetensors")
    torch.manual_seed(0)
    save_file({n: w + 0.01 * torch.randn_like(w) for n, w in weights.items()}, folder / "adapter_model.safetensors")
    second = repository.publish("adapter", "assistant", folder, repository.manifest(first).metadata)
    Aliases(repository, "adapter", "assistant").promote("production", first.version)
    return first, second


@pytest.fixture(scope="session")
def index(submit, repository, tmp_path_factory):
    docs = tmp_path_factory.mktemp("docs")
    (docs / "helm.md").write_text("# Helm\n\n## Install\n\nInstall the operator with helm install operator.\n")
    (docs / "tea.md").write_text("# Tea\n\nGreen tea is made with water of eighty degrees.\n")
    (docs / "picture.png").write_bytes(b"\x89PNG\x00")
    job = ("python", "-m", "jobs.build_index", "--config", "jobs/configs/index.yaml")
    done = submit(*job, sources=f"[{docs}]", promote="production")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "skipped picture.png" in done.stdout
    return repository.latest("index", "docs")


@pytest.fixture(scope="session")
def app(cluster, versions, index, store, tmp_path_factory):
    """The application with the shipped configuration."""
    folder = tmp_path_factory.mktemp("serve")
    (folder / "token").write_text(ADMIN_TOKEN)
    config = yaml.safe_load((ROOT / "serve_apps/configs/local.yaml").read_text())
    config["http_options"]["port"] = port = free_port()
    url = f"http://127.0.0.1:{port}"
    deployed = ServedApp(cluster.run, cluster.get, cluster.dashboard, url, config, folder / "serve.yaml")
    deployed.deploy(
        store={"uri": store[0], "cache": str(store[1])},
        alias_interval_s=0.2,
        admin_token_file=str(folder / "token"),
        limits={"request_timeout_s": 20},
        audit={"content": "full"},
    )
    return deployed


@pytest.fixture(scope="session")
def client(app):
    with httpx.Client(base_url=app.url, timeout=60) as client:
        yield client
