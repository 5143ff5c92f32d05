"""What following replicas costs the controller: 1,000 names, and as many fake replicas as a large cluster has.

    make bench-routing

Every replica asks again as soon as it is answered, as real ones do; nothing changes meanwhile. The figure is the share
of one core that the controller's event loop computes, beside what it would be if every call recomputed all routes.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.outcome import Measure, publish
from llama_platform.artifacts.aliases import AliasChange, AliasDocument, Target
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.artifacts.repository import ArtifactVersion
from serve_apps.config import AppConfig
from serve_apps.routing.controller import MOST_PINNED, Followed

NAMES, SECONDS = 1000, 10.0
REPLICAS = (100, 300)


def main() -> int:
    """Measure, print figures, and return the exit code."""
    measures = {}
    for replicas in REPLICAS:
        ours, every_call = (asyncio.run(share_of_a_core(replicas, recompute)) for recompute in (False, True))
        measures[f"share of a core, {replicas} replicas"] = Measure(
            ours, 0.10, "lower", "cores", ours, {"recomputed at every call": every_call}
        )
    publish("routing", measures, ["ray"], [])
    return 0


async def share_of_a_core(replicas: int, recompute: bool) -> float:
    """Return seconds of computation per second while replicas follow.

    Args:
        replicas: number of replicas that ask.
        recompute: whether every call decides all routes again.
    """
    with tempfile.TemporaryDirectory() as folder:
        repository = repository_from(StoreConfig(uri=folder, cache=Path(folder, "cache")), {})
        followed = Followed("adapter", repository, AppConfig(), "f" * 64, [])
        for number in range(NAMES):
            fill(followed, f"adapter-{number}")
        followed.publish()
        followed.started.set()
        holding = {version.digest: None for version in followed.live.pinned}
        assert len(holding) == MOST_PINNED

        async def follow(replica: str) -> None:
            revision = 0
            while True:
                if followed.live.set_replica(replica, dict(holding), None, time.monotonic()):
                    followed.publish_soon()
                elif recompute:
                    followed.publish()
                await followed.wait_beyond(revision)
                revision = followed.live.table.revision

        async def turns() -> None:
            while True:
                followed.publish()
                await asyncio.sleep(1)

        tasks = [asyncio.ensure_future(follow(f"replica-{n}")) for n in range(replicas)]
        tasks.append(asyncio.ensure_future(turns()))
        await asyncio.sleep(2)  # all have said what they hold
        begun, computed = time.monotonic(), time.process_time()
        await asyncio.sleep(SECONDS)
        share = (time.process_time() - computed) / (time.monotonic() - begun)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return share


def fill(followed: Followed, name: str) -> None:
    """Give a name one version that is in production."""
    targets = (Target(version=1, weight=1),)
    change = AliasChange(generation=1, at="", alias="production", action="promote", targets=targets, parent=None)
    followed.live.set_document(name, AliasDocument(generation=1, aliases={"production": targets}, history=(change,)))
    followed.live.set_checked(name, 1, ArtifactVersion("adapter", name, 1, f"{name}-1", ""))


if __name__ == "__main__":
    sys.exit(main())
