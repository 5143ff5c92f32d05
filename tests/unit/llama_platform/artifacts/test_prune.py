import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.artifacts.prune import delete_garbage, find_garbage

LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture(params=["file", "s3"])
def repository(request, tmp_path):
    uri = (tmp_path / "store").as_uri() if request.param == "file" else request.getfixturevalue("s3_uri")
    return repository_from(StoreConfig(uri=uri, cache=tmp_path / "cache"), {})


@pytest.fixture
def publish(repository, tmp_path):
    def publish(kind, name, content, **metadata):
        folder = tmp_path / "content"
        folder.mkdir(exist_ok=True)
        (folder / "a.txt").write_text(content)
        return repository.publish(kind, name, folder, metadata)

    return publish


def labels(found):
    return [(garbage.kind, garbage.label) for garbage in found]


def test_what_aliases_and_their_history_name_stays_and_the_newest(repository, publish):
    for n in range(1, 8):
        publish("adapter", "support", f"weights {n}")
    aliases = Aliases(repository, "adapter", "support")
    aliases.promote("production", 2)
    aliases.promote("production", 4)
    found = find_garbage(repository, 2, LATER)
    assert labels(found) == [("adapter", f"support@{n}") for n in (1, 3, 5)]
    assert all(garbage.size_bytes > 0 and len(garbage.keys) == 2 for garbage in found)
    assert all(delete_garbage(repository, garbage) for garbage in found)
    assert repository.versions("adapter", "support") == [2, 4, 6, 7]
    assert aliases.rollback("production").aliases["production"][0].version == 2
    assert find_garbage(repository, 2, LATER) == []
    with repository.fetched(repository.version("adapter", "support", 4)) as folder:
        assert (folder / "a.txt").read_text() == "weights 4"


def test_what_is_new_stays(repository, publish):
    for n in range(3):
        publish("index", "docs", f"vectors {n}")
    assert find_garbage(repository, 1, datetime.now(UTC) - timedelta(days=1)) == []


def test_datasets_of_adapters_that_stay_stay(repository, publish):
    for n in range(1, 4):
        publish("dataset", "chats", f"rows {n}")
    publish("adapter", "support", "old", dataset={"name": "chats", "version": 1})
    publish("adapter", "support", "new", dataset={"name": "chats", "version": 2})
    assert labels(find_garbage(repository, 1, LATER)) == [("adapter", "support@1"), ("dataset", "chats@1")]


def test_files_of_a_version_that_stays_are_not_deleted_with_another(repository, publish):
    publish("adapter", "support", "same")
    publish("adapter", "support", "other")
    record = repository.store.read("models/support/versions/1.json").content
    repository.store.write("models/support/versions/3.json", record)
    found = find_garbage(repository, 1, LATER)
    assert [(garbage.label, len(garbage.keys)) for garbage in found] == [("support@1", 0), ("support@2", 2)]
    assert all(delete_garbage(repository, garbage) for garbage in found)
    with repository.fetched(repository.version("adapter", "support", 3)) as folder:
        assert (folder / "a.txt").read_text() == "same"


def test_what_a_publish_left_behind_goes(repository, publish):
    publish("adapter", "support", "whole")
    repository.store.write(f"models/support/objects/{'0' * 64}/a.txt", b"half")
    (garbage,) = find_garbage(repository, 1, LATER)
    assert (garbage.label, garbage.size_bytes) == ("support: a publish without a commit", 4)
    assert find_garbage(repository, 1, datetime.now(UTC) - timedelta(days=1)) == []
    assert delete_garbage(repository, garbage)
    assert find_garbage(repository, 1, LATER) == []


def test_a_version_that_is_promoted_meanwhile_stays(repository, publish):
    for n in range(3):
        publish("adapter", "support", f"weights {n}")
    first = find_garbage(repository, 1, LATER)[0]
    Aliases(repository, "adapter", "support").promote("production", 1)
    assert not delete_garbage(repository, first)
    with repository.fetched(repository.version("adapter", "support", 1)) as folder:
        assert (folder / "a.txt").read_text() == "weights 0"


def test_pruning_beside_publishes_and_promotions_takes_nothing_that_an_alias_names(repository, tmp_path):
    """Twenty versions are published and promoted while another thread prunes without a pause."""
    done, failures = threading.Event(), []

    def prune():
        while not done.is_set():
            try:
                for garbage in find_garbage(repository, 1, datetime.now(UTC) - timedelta(seconds=2)):
                    delete_garbage(repository, garbage)
            except Exception as error:  # whatever it is, the test shows it
                failures.append(error)
                return

    pruning = threading.Thread(target=prune)
    pruning.start()
    aliases, promoted = Aliases(repository, "adapter", "support"), []
    for n in range(20):
        folder = tmp_path / f"content{n}"
        folder.mkdir()
        (folder / "a.txt").write_text(f"weights {n}")
        version = repository.publish("adapter", "support", folder, {})
        if n % 2:
            aliases.promote("production", version.version)
            promoted.append((version.version, f"weights {n}"))
        time.sleep(0.15)
    time.sleep(2)
    done.set()
    pruning.join(60)
    assert failures == []
    for number, content in promoted:
        with repository.fetched(repository.version("adapter", "support", number)) as folder:
            assert (folder / "a.txt").read_text() == content
    assert len(repository.versions("adapter", "support")) < 20
