import json
import subprocess
import sys
import threading
import time

import pytest

from llama_platform.errors import ConflictError, StorageError
from llama_platform.storage import lease as module
from llama_platform.storage.lease import Lease
from llama_platform.storage.open_store import open_store


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    return open_store(tmp_path.as_uri())


def take(store, **options):
    return Lease(store, "run/lease.json", "run r1", **{"lease_s": 0.4, **options})


def test_a_second_holder_is_refused_with_who_holds_it_and_may_come_afterwards(store):
    with take(store) as first:
        with pytest.raises(ConflictError, match=r"run r1 is held by process \d+ on .*, which is at work"):
            take(store).__enter__()
        first.check()
    with take(store):
        pass
    assert list(store.list_keys("")) == []


def test_a_holder_that_lives_is_waited_for(store):
    order = []

    def later():
        with take(store, wait_s=20):
            order.append("second")

    with take(store):
        thread = threading.Thread(target=later)
        thread.start()
        time.sleep(0.6)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]


def test_what_is_not_renewed_is_taken_over(store):
    content = {"host": "elsewhere", "pid": 1, "started": 0, "lease_s": 0.3, "renewed": 0}
    store.write("run/lease.json", json.dumps(content).encode())
    begun = time.monotonic()
    with take(store):
        assert time.monotonic() - begun >= 0.3


def test_a_process_of_this_machine_that_has_ended_is_not_waited_for(store):
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    content = {"host": module.socket.gethostname(), "pid": ended.pid, "started": 1.0, "lease_s": 600, "renewed": 0}
    store.write("run/lease.json", json.dumps(content).encode())
    begun = time.monotonic()
    with take(store):
        assert time.monotonic() - begun < 60


def test_who_has_lost_it_is_told(store, monkeypatch):
    with take(store) as held:
        store.write("run/lease.json", b"{}")
        time.sleep(0.3)
        with pytest.raises(ConflictError, match="somebody else has taken it over"):
            held.check()


def test_a_store_that_is_away_for_too_long_ends_it(store, monkeypatch):
    with take(store) as held:

        def away(*_, **__):
            raise StorageError("no network")

        monkeypatch.setattr(type(store), "write", away)
        time.sleep(0.6)
        with pytest.raises(ConflictError, match="the store was away for too long"):
            held.check()
