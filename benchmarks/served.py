"""Applications that benchmarks serve, on a Ray of their own, until standard input ends."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from llama_platform.cli.ray_cluster import connect


@contextmanager
def serve_on(port: int) -> Iterator[Any]:
    """Start Ray and Ray Serve on a loopback port, and give Ray's `serve`."""
    with connect(local=True):
        from ray import serve

        serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly")
        yield serve
        serve.shutdown()


def until_input_ends(port: int, start: float, prefixes: Sequence[str] = ("",)) -> None:
    """Print `{"ready": seconds}` when applications answer, and return when standard input ends.

    Args:
        port: where they are served.
        start: `time.monotonic()` when the first was deployed.
        prefixes: their route prefixes.
    """
    for prefix in prefixes:
        while httpx.get(f"http://127.0.0.1:{port}{prefix}/health/ready", timeout=5).status_code != 200:
            time.sleep(0.05)
    print(json.dumps({"ready": time.monotonic() - start}), flush=True)
    sys.stdin.read()
