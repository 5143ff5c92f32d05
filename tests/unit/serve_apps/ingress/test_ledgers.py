import asyncio
from datetime import date

import pytest

from llama_platform.access.usage import UsageCounts, UsageKey, read_usage
from llama_platform.audit.journal import Journal
from llama_platform.audit.trail import read_trail, verify_trail
from llama_platform.storage.open_store import open_store
from serve_apps.config import AppConfig
from serve_apps.ingress import ledgers
from serve_apps.ingress.ledgers import Ledgers, audit_folder
from serve_apps.worker_pools import WorkerPools

DAY = date(2026, 1, 1)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def config(tmp_path):
    return AppConfig.model_validate({"store": {"uri": str(tmp_path / "store"), "cache": str(tmp_path / "cache")}})


def test_what_is_counted_and_recorded_reaches_the_store(config, store, monkeypatch):
    monkeypatch.setattr(ledgers, "INTERVAL_S", 0.05)
    killed = Journal(audit_folder(config, store.root), "killed")
    killed.append("request", {"request": "r0"})
    killed._file.close()

    async def go():
        own = Ledgers(config, store, "f" * 64)
        task = asyncio.ensure_future(own.run(WorkerPools()))
        own.usage.add(UsageKey(DAY, "acme", "k", ""), UsageCounts(requests=1))
        own.journal.append("request", {"request": "r1"})
        await asyncio.sleep(0.5)
        assert {record.get("request") for record in read_trail(store)} == {None, "r0", "r1"}
        assert read_usage(store, DAY, DAY)[0].requests == 1
        own.journal.append("request", {"request": "r2"})
        task.cancel()
        await own.close()

    asyncio.run(go())
    assert [(chain.problems, chain.open) for chain in verify_trail(store)] == [((), False)] * 2
    starts = [record for record in read_trail(store) if record["kind"] == "start"]
    assert starts[0]["base"]["model"] == config.base.model
    assert {record.get("request") for record in read_trail(store)} >= {"r2"}


def test_without_a_trail_usage_is_written_all_the_same(config, store):
    off = config.model_copy(update={"audit": config.audit.model_copy(update={"enabled": False})})
    own = Ledgers(off, store, "f" * 64)
    own.usage.add(UsageKey(DAY, "acme", "k", ""), UsageCounts(requests=1))
    asyncio.run(own.close())
    assert read_usage(store, DAY, DAY)[0].requests == 1
    assert list(read_trail(store)) == []


def test_each_store_has_a_folder_of_its_own_on_a_node(config, store, tmp_path):
    """What was killed before another store must not be committed to this one."""
    assert audit_folder(config, store.root) != audit_folder(config, "s3://bucket/other")
    named = config.model_copy(update={"audit": config.audit.model_copy(update={"folder": tmp_path / "disk"})})
    assert audit_folder(named, store.root).parent == tmp_path / "disk"
