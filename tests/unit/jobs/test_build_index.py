"""What becomes of a change that waits in the store."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs import build_index as job
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import ConfigError, InputError, NotFoundError, StorageError
from llama_platform.storage import lease
from rag.documents.document import Skipped
from rag.indexing.build import IndexConfig, IndexReport
from rag.indexing.changes import read_change, store_change


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "LOOK_S", 0.02)
    return repository_from(StoreConfig(uri=str(tmp_path / "store"), cache=tmp_path / "cache"), {})


def upload(repository, number=0):
    return store_change(repository, "docs", [(f"{number}.md", b"# A\n\ntext")], promote="production")


def waits(repository, change):
    try:
        return read_change(repository, "docs", change)[0].uploaded == 1
    except NotFoundError:
        return False


def test_a_change_that_is_done_or_refused_for_its_content_waits_no_more(repository, monkeypatch):
    done, refused = upload(repository), upload(repository)
    monkeypatch.setattr(job, "_build", lambda _, config, __: ("version", config.mode))
    assert job.do_change(repository, IndexConfig(name="docs"), done, print) == ("version", "update")

    def refuse(*_):
        raise InputError("no documents")

    monkeypatch.setattr(job, "_build", refuse)
    with pytest.raises(InputError):
        job.do_change(repository, IndexConfig(name="docs"), refused, print)
    assert [waits(repository, change) for change in (done, refused)] == [False, False]


@pytest.mark.parametrize("error", [StorageError("away"), ConfigError("another model"), KeyError("unforeseen")])
def test_what_is_not_the_changes_fault_leaves_it_waiting(repository, monkeypatch, error):
    change = upload(repository)

    def fail(*_):
        raise error

    monkeypatch.setattr(job, "_build", fail)
    with pytest.raises(type(error)):
        job.do_change(repository, IndexConfig(name="docs"), change, print)
    assert waits(repository, change)
    assert not [key for key in repository.store.list_keys("changes/") if key.endswith("lease.json")]


def test_changes_of_one_index_follow_one_another(repository, monkeypatch):
    inside, most, lock = 0, 0, threading.Lock()

    def build(*_):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with lock:
            inside -= 1
        return "version", "report"

    monkeypatch.setattr(job, "_build", build)
    monkeypatch.setattr(lease, "LEASE_S", 1.0)
    changes = [upload(repository, number) for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda change: job.do_change(repository, IndexConfig(name="docs"), change, print), changes))
    assert most == 1
    assert not any(waits(repository, change) for change in changes)


def test_a_file_that_cannot_be_read_fails_its_upload():
    version, report = ArtifactVersion("index", "docs", 3, "a" * 64, "2026-01-01"), IndexReport()
    job.refuse_unread(version, report)
    report.skipped.append(Skipped("scan.pdf", "without text"))
    with pytest.raises(InputError, match=r"1 of the uploaded documents are not in docs@3, .*scan.pdf: without text"):
        job.refuse_unread(version, report)
