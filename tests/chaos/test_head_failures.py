"""`kill -9` of a head whose state is in Redis: the application answers meanwhile, and a new head takes it over."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import yaml

from llama_platform.ports import free_port
from ray_nodes import RayCluster, kill_group, wait_for
from served_app import ADMIN_TOKEN, ServedApp

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]


class Asking(threading.Thread):
    """A client that asks again and again, and notes when it was answered and when not."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url, self._stopping = url, threading.Event()
        self.seen: list[tuple[float, bool]] = []

    def run(self) -> None:
        while not self._stopping.wait(0.2):
            well = False
            with suppress(httpx.HTTPError):
                body = {"prompt": "Hello", "max_new_tokens": 4}
                well = httpx.post(f"{self._url}/predict", json=body, timeout=10).status_code == 200
            self.seen.append((time.monotonic(), well))

    def stop(self) -> None:
        self._stopping.set()
        self.join(30)

    def share(self, since: float, until: float) -> float:
        found = [well for at, well in self.seen if since <= at < until]
        return sum(found) / len(found)


@pytest.fixture
def app(redis_server, tmp_path):
    cluster = RayCluster(head_cpus=0, redis=f"127.0.0.1:{redis_server.port}")
    try:
        for _ in range(2):
            cluster.add_node()
        (tmp_path / "token").write_text(ADMIN_TOKEN)
        config = yaml.safe_load((ROOT / "serve_apps/configs/local.yaml").read_text())
        config["http_options"]["port"] = port = free_port()
        config["proxy_location"] = "EveryNode"
        url = f"http://127.0.0.1:{port}"
        served = ServedApp(cluster.run, cluster.get, cluster.dashboard, url, config, tmp_path / "serve.yaml")
        served.deploy(
            store={"uri": (tmp_path / "store").as_uri(), "cache": str(tmp_path / "cache")},
            adapter=None, rag_adapter=None, index=None, admin_token_file=str(tmp_path / "token"),
        )  # fmt: skip
        yield cluster, served
    finally:
        cluster.close()


def test_a_killed_head_comes_back_and_nobody_notices(app):
    cluster, served = app
    asking = Asking(served.url)
    asking.start()
    time.sleep(5)
    killed = time.monotonic()
    kill_group(cluster.head)
    time.sleep(15)
    restarted = time.monotonic()
    cluster.start_head()
    wait_for(lambda: served.status()["status"] == "RUNNING", 120)
    running = time.monotonic()
    time.sleep(5)
    asking.stop()
    # The head's own proxy goes with it: what it held is lost, and what comes meets the other nodes' proxies.
    assert asking.share(killed - 4, killed) == 1
    assert asking.share(killed + 3, restarted) >= 0.95
    assert asking.share(restarted, running + 5) >= 0.95
    served.deploy(limits={"request_timeout_s": 30})  # and it can be changed again
    assert (
        httpx.post(f"{served.url}/predict", json={"prompt": "Hi", "max_new_tokens": 2}, timeout=30).status_code == 200
    )
