"""The file of `ray up`: what is still the example's, and what does not go together."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llama_platform.config import read_yaml
from llama_platform.errors import ConfigError
from llama_platform.preflight.findings import Finding

EXAMPLE_BUCKET = "my-llama-bucket"
_REGION = re.compile(r"(af|ap|ca|cn|eu|il|me|mx|sa|us|us-gov)-(central|(north|south)?(east|west)?)-\d")
_ADDRESS = re.compile(r"--dashboard-host[= ](\S+)")


def check_cluster_file(file: Path) -> Iterator[Finding]:
    """Look at a cluster file of Ray's launcher."""
    try:
        found = read_yaml(file)
    except ConfigError as error:
        yield Finding("error", "cluster file", str(error))
        return
    if not isinstance(found.get("provider"), dict):
        yield Finding("error", "cluster file", f"{file}: is no cluster file of Ray: it has no provider")
        return
    problems = [*_provider(found), *_commands(found), *_types(found)]
    yield from problems
    if not problems:
        yield Finding("ok", "cluster file", f"{file}: {found.get('cluster_name')}")


def _provider(found: dict[str, Any]) -> Iterator[Finding]:
    provider = found["provider"]
    if provider.get("type") == "aws" and not _REGION.fullmatch(str(provider.get("region", ""))):
        yield Finding("error", "region", f"provider.region {provider.get('region')!r} is no region of AWS")
    named = [kind.get("node_config") or {} for kind in (found.get("available_node_types") or {}).values()]
    if provider.get("type") == "aws" and not all("SecurityGroupIds" in config for config in named):
        text = "the group that Ray makes lets SSH in from everywhere; name SecurityGroupIds of your own"
        yield Finding("warning", "security group", text)
    if "0.0.0.0/0" in str(provider.get("security_group", "")):
        yield Finding("error", "security group", "opens a port to everybody; name addresses, or use ray attach")


def _commands(found: dict[str, Any]) -> Iterator[Finding]:
    starts = {key: " ".join(found.get(f"{key}_start_ray_commands", [])) for key in ("head", "worker")}
    for key, text in starts.items():
        if not text:
            continue
        if EXAMPLE_BUCKET in text:
            yield Finding("error", "bucket", f"{key}_start_ray_commands: MODEL_BUCKET is the example's; name yours")
        if "RAY_AUTH_MODE=token" not in text:
            text = f"{key}_start_ray_commands: without RAY_AUTH_MODE=token whoever reaches Ray's ports runs code"
            yield Finding("error", "token", text)
    for host in _ADDRESS.findall(starts["head"]):
        if host not in ("127.0.0.1", "localhost"):
            text = f"the dashboard listens at {host}; use 127.0.0.1, and ray attach -p 8265 to reach it"
            yield Finding("error", "dashboard", text)
    if starts["head"] and "--dashboard-host" not in starts["head"]:
        yield Finding("ok", "dashboard", "listens at the loopback address, as is Ray's default")


def _types(found: dict[str, Any]) -> Iterator[Finding]:
    types = found.get("available_node_types") or {}
    head = found.get("head_node_type")
    if head is not None and head not in types:
        yield Finding("error", "node types", f"head_node_type {head!r} is none of {', '.join(types) or 'none'}")
    for name, kind in types.items():
        least, most = kind.get("min_workers", 0), kind.get("max_workers", found.get("max_workers", 0))
        if name != head and least > most:
            yield Finding("error", "node types", f"{name}: min_workers {least} are more than max_workers {most}")
