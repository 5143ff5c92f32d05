"""Real Ray clusters of one or more nodes on this machine."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import httpx
import psutil

from llama_platform.ports import free_port

BIN = Path(sys.executable).parent
T = TypeVar("T")
ROOT = Path(__file__).parents[2]


class RayCluster:
    """A head with token authentication, and further nodes; each node is a process group that can be killed."""

    def __init__(self, head_cpus: int, redis: str | None = None) -> None:
        """Start the head; with `redis`, host:port, its state is kept there, so that it can be started again."""
        self._folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # short: sockets in it have 107 characters at most
        self._port, dashboard = free_port(), free_port()
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
            "HF_HUB_OFFLINE": "1",
        }
        if redis is not None:
            self.environment["RAY_REDIS_ADDRESS"] = redis
        self._nodes: list[subprocess.Popen] = []
        self._head_arguments = (
            f"--num-cpus={head_cpus}", "--head", f"--port={self._port}", f"--temp-dir={self._folder}",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={free_port()}",
        )  # fmt: skip
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        self.start_head()
        self.environment["RAY_ADDRESS"] = f"127.0.0.1:{self._port}"

    def start_head(self) -> None:
        """Start the head, also again after it was killed."""
        # Other nodes of this machine would be taken for those of the head that it names.
        Path(self._folder, "ray_current_cluster").unlink(missing_ok=True)
        self.head = self._start(*self._head_arguments)
        wait_for(self.head_answers, 60)

    def head_answers(self) -> bool:
        """Return whether the dashboard answers."""
        with suppress(httpx.HTTPError):
            return self.get("/api/version").status_code == 200
        return False

    def run(self, *command: str, timeout: float = 240) -> subprocess.CompletedProcess:
        """Run a command of the virtual environment as a user of the cluster would, from the repository root."""
        program = [str(BIN / command[0]), *command[1:]]
        return subprocess.run(program, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout)

    def get(self, path: str) -> httpx.Response:
        """Ask the dashboard."""
        headers = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        return httpx.get(self.dashboard + path, headers=headers, timeout=30)

    def add_node(self) -> subprocess.Popen:
        """Start a node with one CPU and return its process."""
        known = len(self.node_ids())
        node = self._start("--num-cpus=1", f"--address=127.0.0.1:{self._port}")
        wait_for(lambda: len(self.node_ids()) > known, 60)
        return node

    def node_ids(self) -> list[str]:
        """Return the ids of the living nodes, the head's first."""
        probe = (
            "import ray; ray.init(logging_level='ERROR', log_to_driver=False);"
            "n = sorted(ray.nodes(), key=lambda n: 'node:__internal_head__' not in n['Resources']);"
            "print('IDS', *[x['NodeID'] for x in n if x['Alive']])"
        )
        done = subprocess.run(
            [sys.executable, "-c", probe], env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return next(line for line in done.stdout.splitlines() if line.startswith("IDS")).split()[1:]

    def drain(self, node_id: str) -> None:
        """Announce that a node goes away within a minute, as a cloud does with a spot instance."""
        done = subprocess.run(
            [BIN / "ray", "drain-node", f"--address={self.environment['RAY_ADDRESS']}", f"--node-id={node_id}",
             "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", "--deadline-remaining-seconds=60"],
            env=self.environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def close(self) -> None:
        for node in reversed(self._nodes):
            kill_group(node)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, *arguments: str) -> subprocess.Popen:
        command = [
            str(BIN / "ray"), "start", "--block", "--node-ip-address=127.0.0.1", "--object-store-memory=150000000",
            "--dashboard-agent-listen-port=0", *arguments,
        ]  # fmt: skip
        environment = {key: value for key, value in self.environment.items() if key != "RAY_ADDRESS"}
        node = subprocess.Popen(
            command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._nodes.append(node)
        return node


def kill_group(process: subprocess.Popen) -> None:
    """Kill a process, what it started and what these started, all at once and without a word."""
    victims = []
    with suppress(psutil.NoSuchProcess):
        victims = psutil.Process(process.pid).children(recursive=True)
    for victim in victims:
        with suppress(psutil.NoSuchProcess):
            victim.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def wait_for(condition: Callable[[], T], seconds: float, must: bool = True) -> T:
    """Wait until a condition holds, and return what it gave; without `must`, at most so long."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() >= deadline:
            assert not must, f"waited {seconds} s in vain"
            break
        time.sleep(0.2)
    return found
