"""`ray up cluster.local.yaml` over SSH on this machine: a cluster from nothing, a job, an application, and down again.

Needs Debian's openssh-server and rsync. What the nodes install is this environment, linked; `ray stop` ends what this
cluster started and nothing else of this machine's.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from llama_platform.ports import free_port, is_listening
from ray_nodes import wait_for

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
MISSING = [name for name, there in (("sshd", Path(SSHD).exists()), ("rsync", shutil.which("rsync"))) if not there]
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (apt install openssh-server rsync)"),
]
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
STOP = """#!{python}
# Ends the processes of one cluster, where `ray stop` would end those of every cluster on the machine.
import os, sys
import psutil
if sys.argv[1:2] != ["stop"]:
    os.execv("{ray}", ["{ray}", *sys.argv[1:]])
for process in psutil.process_iter(["cmdline"]):
    if "{folder}" in " ".join(process.info["cmdline"] or []) and "{home}" not in " ".join(process.info["cmdline"]):
        process.kill()
"""


@pytest.fixture
def ray_folder():
    """Where the cluster keeps its session; short, as the sockets in it have 107 characters at most."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home(tmp_path, ray_folder):
    """The home of the user that SSH lets in, with this environment as its own."""
    home = tmp_path / "home"
    (home / "venv/bin").mkdir(parents=True)
    for name in ("python", "serve"):
        (home / "venv/bin" / name).symlink_to(BIN / name)
    ray = home / "venv/bin/ray"
    ray.write_text(STOP.format(python=sys.executable, ray=BIN / "ray", folder=ray_folder, home=home))
    ray.chmod(0o755)
    (home / ".bashrc").write_text(f"export PATH={home}/venv/bin:{BIN}:$PATH\n")
    return home


@pytest.fixture
def ssh(tmp_path, home):
    """A server of SSH on a loopback port: (port, key)."""
    folder, port = tmp_path / "ssh", free_port()
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    Path("/run/sshd").mkdir(exist_ok=True)
    settings = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host", "PidFile": "none", "UsePAM": "no",
        "AuthorizedKeysFile": folder / "authorized_keys", "StrictModes": "no", "PermitRootLogin": "yes",
        "SetEnv": f"HOME={home}", "PasswordAuthentication": "no",
    }  # fmt: skip
    (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stdout=log, stderr=log)
    wait_for(lambda: is_listening(f"127.0.0.1:{port}", 1), 20)
    yield port, folder / "user"
    server.terminate()
    server.wait(10)


@pytest.fixture
def cluster(tmp_path, ray_folder, home, ssh):
    """The file with this machine's ports in it, and the environment to use it in: (file, environment, dashboard)."""
    port, key = ssh
    gcs, dashboard, client = free_port(), free_port(), free_port()
    found = yaml.safe_load((ROOT / "cluster.local.yaml").read_text())
    found["auth"] = {
        "ssh_user": "root",
        "ssh_private_key": str(key),
        "ssh_proxy_command": f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3 & cat >&3; kill $!'",
    }
    token = tmp_path / "token"
    token.write_text("f" * 64)
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "constraints.txt").write_text("")
    found["file_mounts"] = {f"{home}/llama-platform": str(dist), f"{home}/.ray/auth_token": str(token)}
    found["setup_commands"] = [f"test -x {home}/venv/bin/python"]
    found["head_start_ray_commands"] = [
        command.replace("--port=6379", f"--port={gcs}").replace(
            "--dashboard-host=127.0.0.1",
            f"--dashboard-host=127.0.0.1 --dashboard-port={dashboard} --ray-client-server-port={client} "
            f"--dashboard-agent-listen-port=0 --temp-dir={ray_folder} --num-cpus=4 "
            "--node-ip-address=127.0.0.1 --object-store-memory=150000000",
        ).replace("ulimit -n 65536;", "export PYTHONPATH=" + f"{ROOT}:{ROOT / 'platform'};")
        for command in found["head_start_ray_commands"]
    ]  # fmt: skip
    file = tmp_path / "cluster.local.yaml"
    file.write_text(yaml.safe_dump(found))
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "operator"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "f" * 64,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": "/tmp",
        "HF_HUB_OFFLINE": "1",
    }
    (tmp_path / "operator").mkdir()
    yield file, environment, f"http://127.0.0.1:{dashboard}"
    for process in psutil.process_iter(["cmdline"]):
        if ray_folder in " ".join(process.info["cmdline"] or []):
            with suppress(psutil.Error):
                process.kill()


def test_up_a_job_an_application_and_down(cluster, tmp_path):
    file, environment, dashboard = cluster

    def run(*command: str, **more: str) -> subprocess.CompletedProcess:
        done = subprocess.run(
            command, cwd=ROOT, env={**environment, **more}, capture_output=True, text=True, timeout=240,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    run("ray", "up", "-y", "--no-config-cache", str(file))
    at = {"RAY_ADDRESS": dashboard}
    job = run(
        "ray",
        "job",
        "submit",
        "--",
        "python",
        "-c",
        "import llama_platform as p; print('release', p.__version__)",
        **at,
    )
    assert "release 0.1.0" in job.stdout
    port = free_port()
    served = yaml.safe_load((ROOT / "serve_apps/configs/local.yaml").read_text())
    served["http_options"]["port"] = port
    served["applications"][0]["args"] |= {
        "store": {"uri": (tmp_path / "store").as_uri()}, "adapter": None, "rag_adapter": None, "index": None,
    }  # fmt: skip
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(served))
    run("serve", "deploy", "--address", dashboard, str(tmp_path / "serve.yaml"))

    def answers() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=5).status_code == 200
        return False

    wait_for(answers, 180)
    said = httpx.post(f"http://127.0.0.1:{port}/predict", json={"prompt": "Hello", "max_new_tokens": 4}, timeout=60)
    assert said.status_code == 200
    run("ray", "down", "-y", str(file))
    wait_for(lambda: not answers(), 30)
