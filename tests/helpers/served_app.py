"""The application on a Ray cluster, as `serve deploy` puts it there, and clients that stream from it."""

import asyncio
import json
import random
import secrets
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from ray_nodes import wait_for

ADMIN_TOKEN = secrets.token_hex(16)


@dataclass
class ServedApp:
    """The application on the cluster."""

    run: Callable[..., subprocess.CompletedProcess]
    """Runs a command of the virtual environment against the cluster."""
    get: Callable[[str], httpx.Response]
    """Asks the dashboard."""
    dashboard: str
    url: str
    config: dict
    file: Path

    def deploy(self, **arguments: object) -> None:
        """Deploy with changed arguments of the application, and wait until they are live and ready."""
        self.config["applications"][0]["args"] |= arguments
        self.file.write_text(yaml.safe_dump(self.config))
        done = self.run("serve", "deploy", "--address", self.dashboard, str(self.file))
        assert done.returncode == 0, done.stderr[-2000:]
        wait_for(lambda: self.status()["status"] != "RUNNING", 3, must=False)
        wait_for(lambda: self.status()["status"] == "RUNNING" and self.ready(), 240)

    def status(self) -> dict:
        """Return Serve's own description of the application."""
        applications = self.get("/api/serve/applications/").json()["applications"]
        return applications.get("llama", {"status": "NOT_STARTED", "deployments": {}})

    def replicas(self, deployment: str = "llama") -> list[dict]:
        """Return the running replicas of a deployment."""
        found = self.status()["deployments"].get(deployment, {"replicas": []})["replicas"]
        return [replica for replica in found if replica["state"] == "RUNNING"]

    def ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        return False

    def admin(self, method: str, path: str, body: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        return httpx.request(method, f"{self.url}/admin{path}", json=body, headers=headers, timeout=30)

    def live(self, alias: str = "production") -> tuple[str, list[int]]:
        """Return the status of an alias of the adapter, and the versions that answer."""
        state = self.admin("GET", "/adapters/assistant").json()["live"].get(alias)
        return (state["status"], [target["version"] for target in state["targets"]]) if state else ("unknown", [])

    def wait_until_live(self, *versions: int, seconds: float = 5) -> None:
        wait_for(lambda: self.live() == ("live", list(versions)), seconds)


@dataclass
class Stream:
    """What one stream gave."""

    status: int = 0
    text: str = ""
    done: dict | None = None
    error: dict | None = None
    broken: str | None = None
    seconds: float = 0.0


class Streams:
    """Clients that stream one answer after another until they are told to stop."""

    def __init__(self, url: str, count: int, body: dict) -> None:
        self._url, self._count, self._body = url, count, body
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.finished: list[Stream] = []

    def __enter__(self) -> "Streams":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self._url, timeout=120, limits=limits) as client:
            await asyncio.gather(*(self._one(client, number) for number in range(self._count)))

    async def _one(self, client: httpx.AsyncClient, number: int) -> None:
        while not self._stopping.is_set():
            body = self._body | {"user": f"user-{number}-{len(self.finished)}"}
            self.finished.append(await stream(client, body))


async def stream(client: httpx.AsyncClient, body: dict, cut_after_s: float | None = None) -> Stream:
    """Stream one answer; with `cut_after_s`, leave after so long."""
    seen, start = Stream(), time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(cut_after_s):
            try:
                async with client.stream("POST", "/predict", json=body | {"stream": True}) as response:
                    seen.status = response.status_code
                    event = ""
                    async for line in response.aiter_lines():
                        if line.startswith("event: "):
                            event = line.removeprefix("event: ")
                        elif line.startswith("data: "):
                            data = json.loads(line.removeprefix("data: "))
                            if event == "token":
                                seen.text += data["text"]
                            else:
                                setattr(seen, event, data)
            except httpx.HTTPError as error:
                seen.broken = repr(error)
    seen.seconds = time.monotonic() - start
    return seen


async def cut_streams(url: str, count: int, body: dict, at_once: int = 30) -> None:
    """Begin streams and leave each after a random while."""
    choose, places = random.Random(3), asyncio.Semaphore(at_once)

    async def one(client: httpx.AsyncClient) -> None:
        async with places:
            await stream(client, body, choose.uniform(0.0, 0.5))

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        await asyncio.gather(*(one(client) for _ in range(count)))
