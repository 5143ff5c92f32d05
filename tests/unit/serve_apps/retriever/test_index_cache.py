import asyncio

import pytest

from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import IntegrityError
from serve_apps.retriever import index_cache
from serve_apps.retriever.index_cache import IndexCache


def version(number):
    return ArtifactVersion("index", "docs", number, str(number) * 64, "2026-01-01")


class Opening:
    """Opens versions, and remembers which."""

    def __init__(self, damaged=()):
        self.opened, self._damaged = [], damaged

    def __call__(self, version):
        self.opened.append(version.version)
        if version.version in self._damaged:
            raise IntegrityError("damaged")
        return f"retriever {version.version}"


def test_what_is_pinned_is_opened_once():
    async def story():
        opening = Opening()
        held = IndexCache(opening)
        await held.pin(version(1))
        assert await held.get(version(1)) == "retriever 1"
        assert opening.opened == [1]

    asyncio.run(story())


def test_others_are_opened_on_demand_once_for_all_who_wait_and_the_oldest_go():
    async def story():
        opening = Opening()
        held = IndexCache(opening)
        await asyncio.gather(*(held.get(version(1)) for _ in range(5)))
        assert opening.opened == [1]
        await held.get(version(2))
        await held.get(version(1))  # used again
        await held.get(version(3))
        await held.get(version(1))
        assert opening.opened == [1, 2, 3]
        await held.get(version(2))
        assert opening.opened == [1, 2, 3, 2]

    asyncio.run(story())


def test_what_is_unpinned_still_answers_for_a_while(monkeypatch):
    monkeypatch.setattr(index_cache, "GRACE_S", 0.05)

    async def story():
        opening = Opening()
        held = IndexCache(opening)
        await held.pin(version(1))
        await held.unpin(version(1))
        assert opening.opened == [1]
        await asyncio.sleep(0.1)
        await held.get(version(1))
        assert opening.opened == [1, 1]

    asyncio.run(story())


def test_what_nobody_asks_for_goes(monkeypatch):
    monkeypatch.setattr(index_cache, "IDLE_S", 0.8)

    async def story():
        opening = Opening()
        held = IndexCache(opening)
        for _ in range(3):  # in use all the time
            await held.get(version(1))
            await asyncio.sleep(0.3)
        assert opening.opened == [1]
        await asyncio.sleep(1.0)
        await held.get(version(1))
        assert opening.opened == [1, 1]

    asyncio.run(story())


def test_what_is_damaged_is_refused_and_the_rest_goes_on():
    async def story():
        held = IndexCache(Opening(damaged=(1,)))
        with pytest.raises(IntegrityError):
            await held.pin(version(1))
        with pytest.raises(IntegrityError):
            await held.get(version(1))
        assert await held.get(version(2)) == "retriever 2"

    asyncio.run(story())
