"""This machine and the cluster that it speaks to: versions, processor, token, dashboard."""

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping

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
    token = environ.get("RAY_AUTH_TOKEN", "")
    try:
        bare = httpx.get(f"{address}/api/version", timeout=TIMEOUT_S)
        known = httpx.get(f"{address}/api/version", headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT_S)
    except httpx.HTTPError as error:
        yield Finding("error", "cluster", f"{address}: does not answer ({error}); `ray attach cluster.yaml -p 8265`")
        return
    if bare.status_code == 200:
        text = f"{address} answers without a token: start Ray with RAY_AUTH_MODE=token"
        yield Finding("error", "dashboard", text)
    answer = bare if bare.status_code == 200 else known
    if answer.status_code != 200:
        yield Finding("error", "token", f"{address} refuses the token of RAY_AUTH_TOKEN ({answer.status_code})")
        return
    theirs, ours = str(answer.json().get("ray_version")), importlib.metadata.version("ray")
    if theirs != ours:
        yield Finding("error", "versions", f"the cluster runs Ray {theirs}, this machine has {ours}; install the same")
    else:
        yield Finding("ok", "cluster", f"{address}: Ray {theirs}")
