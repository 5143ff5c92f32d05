"""The container image: built with buildah on a Debian that is bootstrapped here, and started as a container would be.

Needs root, and Debian's packages buildah and mmdebstrap; no registry of images is asked. Takes minutes.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from llama_platform.ports import free_port
from ray_nodes import kill_group, wait_for

ROOT = Path(__file__).parents[2]
NEEDED = [tool for tool in ("buildah", "mmdebstrap") if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(NEEDED), reason=f"not installed: {', '.join(NEEDED)} (apt install buildah mmdebstrap)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="buildah needs root for --isolation chroot"),
]
PIP_FILES = ("/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs", "/opt/wheels", "/opt/pypi", "/opt/pypi-more")
"""How pip of this machine finds packages: the build uses the same, where they are."""


class Buildah:
    def __init__(self, folder: Path) -> None:
        self._roots = [f"--root={folder / 'store'}", f"--runroot={folder / 'run'}"]
        self.environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}

    def command(self, *arguments: str) -> list[str]:
        return ["buildah", arguments[0], *self._roots, *arguments[1:]]

    def __call__(self, *arguments: str, timeout: float = 1200) -> str:
        done = subprocess.run(
            self.command(*arguments), cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout.strip()


@pytest.fixture(scope="module")
def buildah(tmp_path_factory):
    folder = tmp_path_factory.mktemp("buildah")
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", "--include=python3,python3-venv,ca-certificates",
         "bookworm", folder / "base.tar"], check=True, timeout=300,
    )  # fmt: skip
    run = Buildah(folder)
    empty = run("from", "scratch")
    run("add", empty, str(folder / "base.tar"), "/")
    run("commit", "-q", empty, "localhost/base:test")
    run("rm", empty)
    yield run
    with suppress(AssertionError):
        run("rm", "--all")
        run("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def container(buildah):
    volumes = [part for path in PIP_FILES if Path(path).exists() for part in ("--volume", f"{path}:{path}:ro")]
    wheels = "--find-links /opt/wheels" if Path("/opt/wheels").exists() else ""
    buildah(
        "build", *volumes, "--build-arg", "BASE=localhost/base:test", "--build-arg", f"TORCH_ARGS={wheels}",
        "--file", "platform/docker/Dockerfile", "--tag", "localhost/llama-platform:test", ".",
    )  # fmt: skip
    return buildah("from", "localhost/llama-platform:test")


@pytest.fixture(scope="module")
def image(buildah, container):
    return json.loads(buildah("inspect", "--type", "image", "localhost/llama-platform:test"))["OCIv1"]["config"]


def test_it_says_what_it_is_and_runs_as_nobody_in_particular(image):
    assert image["User"] == "10001:10001"
    assert set(image["ExposedPorts"]) == {"8000", "8080"} or set(image["ExposedPorts"]) == {"8000/tcp", "8080/tcp"}
    assert set(image["Volumes"]) == {"/var/lib/llama-platform", "/tmp"}
    assert image["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_it_lists_what_is_in_it(buildah, container):
    found = json.loads(buildah("run", container, "--", "cat", "/opt/venv/sbom.json"))
    names = {component["name"] for component in found["components"]}
    assert {"torch", "ray", "transformers", "llama-platform"} <= names


def test_it_writes_to_its_volumes_only(buildah, container):
    script = "touch /etc/x 2>/dev/null || touch /opt/venv/x 2>/dev/null || touch $HOME/x && touch /tmp/x && id -u && ls $HOME/x"
    assert buildah("run", container, "--", "sh", "-c", script).split() == ["10001", "/var/lib/llama-platform/x"]


def test_it_answers_and_ends_in_time(buildah, container, image, tmp_path):
    port = free_port()
    command = [part if part != "8080" else str(free_port()) for part in image["Cmd"]]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            buildah.command("run", "--network", "host", container, "--", *command, "--port", str(port)),
            cwd=ROOT, env=buildah.environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        begun = time.monotonic()

        def answers(path: str) -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
            with suppress(httpx.HTTPError):
                return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5).status_code == 200
            return False

        wait_for(lambda: answers("/health/live"), 180)
        wait_for(lambda: answers("/health/ready"), 60)
        wait_for(lambda: '"event": "serving"' in (tmp_path / "log").read_text(), 60)
        print(f"ready after {time.monotonic() - begun:.1f} s")
        buildah("run", "--network", "host", container, "--", "python", "-m", "serve_apps.healthcheck", str(port))
        (program,) = [
            found
            for found in psutil.Process(process.pid).children(recursive=True)
            if found.cmdline()[1:3] == ["-m", "serve_apps.standalone"] and found.name() != "buildah"
            and not any("serve_apps.standalone" in " ".join(child.cmdline()) for child in found.children())
        ]  # fmt: skip
        assert program.uids().real == 10001
        program.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (tmp_path / "log").read_text()[-3000:]
        assert '"event": "drained"' in (tmp_path / "log").read_text()
    finally:
        kill_group(process)
