"""This machine and the cluster that it speaks to: versions, processor, token, dashboard."""

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from llama_platform.preflight.findings import Finding

PROCESSORS = ("x86_64", "amd64")
PACKAGES = ("ray", "torch", "transformers", "llama-platform")
TIMEOUT_S = 10


def check_machine(machine: str = "") -> Iterator[Finding]:
    """Tell the versions and the processor.

    Args:
        machine: kind of the processor; empty for this machine's.
    """
    found = machine or platform.machine()
    if found.lower() not in PROCESSORS:
        text = f"{found}: our engine on CPUs, FAISS's wheels and the images are built for x86_64"
        yield Finding("error", "processor", text)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    yield Finding("ok", "versions", f"Python {platform.python_version()}, {versions}")


def check_cluster(address: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Ask a cluster's dashboard for its release, with the token and without.

    Args:
        address: URL of the dashboard, such as http://127.0.0.1:8265.
        environ: environment variables, for the token.
    """
    try:
        bare = httpx.get(f"{address}/api/version", timeout=TIMEOUT_S)
        token = _token(environ)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        known = httpx.get(f"{address}/api/version", headers=headers, timeout=TIMEOUT_S)
    except httpx.HTTPError as error:
        yield Finding("error", "cluster", f"{address}: does not answer ({error}); `ray attach cluster.yaml -p 8265`")
        return
    if bare.status_code == 200:
        text = f"{address} answers without a token: start Ray with RAY_AUTH_MODE=token"
        yield Finding("error", "dashboard", text)
    answer = bare if bare.status_code == 200 else known
    if answer.status_code != 200:
        text = f"{address} refuses the token of this machine, or there is none ({answer.status_code})"
        yield Finding("error", "token", text)
        return
    theirs, ours = str(answer.json().get("ray_version")), importlib.metadata.version("ray")
    if theirs != ours:
        yield Finding("error", "versions", f"the cluster runs Ray {theirs}, this machine has {ours}; install the same")
    else:
        yield Finding("ok", "cluster", f"{address}: Ray {theirs}")


def _token(environ: Mapping[str, str]) -> str:
    """Return Ray's token where Ray itself looks for it; empty where there is none."""
    if token := environ.get("RAY_AUTH_TOKEN"):
        return token
    file = Path(environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""
