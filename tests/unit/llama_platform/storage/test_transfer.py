import pytest

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.artifacts.verify import verify_store
from llama_platform.errors import ConflictError, InputError, StorageError
from llama_platform.storage.open_store import open_store
from llama_platform.storage.transfer import copy_store


def repository_at(uri, cache):
    return repository_from(StoreConfig(uri=uri, cache=cache), {})


@pytest.fixture
def source(tmp_path):
    found = repository_at((tmp_path / "source").as_uri(), tmp_path / "cache")
    publish(found, tmp_path, "one")
    publish(found, tmp_path, "two")
    Aliases(found, "adapter", "support").promote("production", 2)
    found.store.write("audit/segments/0.jsonl", b"{}\n")
    found.store.write("probe/x", b"1")
    return found


def publish(repository, tmp_path, content):
    folder = tmp_path / "content"
    folder.mkdir(exist_ok=True)
    (folder / "a.txt").write_text(content)
    return repository.publish("adapter", "support", folder, {})


@pytest.fixture(params=["file", "s3"])
def target(request, tmp_path):
    return (tmp_path / "target").as_uri() if request.param == "file" else request.getfixturevalue("s3_uri")


def test_a_copy_holds_what_its_source_holds(source, target, tmp_path):
    done = copy_store(source.store, open_store(target))
    copied = repository_at(target, tmp_path / "other")
    assert [key for key in source.store.list_keys("") if not key.startswith("probe/")] == list(
        copied.store.list_keys("")
    )
    assert done.copied == len(list(copied.store.list_keys("")))
    assert verify_store(copied)[1] == []
    assert [t.version for t in Aliases(copied, "adapter", "support").read().aliases["production"]] == [2]


def test_it_goes_on_where_it_was_interrupted(source, target):
    opened, seen = open_store(target), []

    def stop(key, so_far):
        seen.append(key)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_store(source.store, opened, stop)
    assert not [key for key in opened.list_keys("") if "/versions/" in key or "aliases" in key]
    done = copy_store(source.store, opened)
    assert done.present == 3
    assert copy_store(source.store, opened).copied == 0


def test_what_has_changed_since_is_copied_again(source, target, tmp_path):
    opened = open_store(target)
    copy_store(source.store, opened)
    publish(source, tmp_path, "three")
    Aliases(source, "adapter", "support").promote("production", 3)
    assert copy_store(source.store, opened).copied == 4  # the file, its manifest, the version and the aliases
    assert (
        opened.read("models/support/aliases.json").content == source.store.read("models/support/aliases.json").content
    )


def test_another_history_under_the_same_name_is_not_overwritten(source, target, tmp_path):
    other = repository_at(target, tmp_path / "other")
    publish(other, tmp_path, "theirs")
    before = other.store.read("models/support/versions/1.json").content
    with pytest.raises(ConflictError, match="another version"):
        copy_store(source.store, other.store)
    assert other.store.read("models/support/versions/1.json").content == before


def test_a_store_is_not_copied_onto_itself_nor_from_nowhere(source, tmp_path):
    with pytest.raises(InputError, match="two different"):
        copy_store(source.store, source.store)
    with pytest.raises(StorageError):
        copy_store(open_store((tmp_path / "nowhere").as_uri()), source.store)
