import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from artifact_folders import fetched_folder
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.errors import ConflictError, InputError, IntegrityError, NotFoundError, StorageError


def test_what_is_published_can_be_fetched_by_another_node(repository, folder, tmp_path):
    version = repository.publish("dataset", "chats", folder, {"source": "x", "sizes": (1, 2)})
    assert (version.version, repository.versions("dataset", "chats")) == (1, [1])
    other = repository_from(StoreConfig(uri=repository.store.root, cache=tmp_path / "other"), {})
    found = other.latest("dataset", "chats")
    assert found == version
    fetched = fetched_folder(other, found)
    assert (fetched / "sub/b.txt").read_text() == "b" * 1000
    assert other.manifest(found).metadata == {"source": "x", "sizes": [1, 2]}


def test_the_same_content_is_one_version(repository, folder):
    first = repository.publish("dataset", "chats", folder, {"m": 1})
    assert repository.publish("dataset", "chats", folder, {"m": 1}) == first
    assert repository.publish("dataset", "chats", folder, {"m": 2}).version == 2
    assert repository.names("dataset") == ["chats"]


def test_racing_publishers_each_get_a_version(repository, folder):
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda n: repository.publish("dataset", "r", folder, {"n": n}), range(6)))
    assert sorted(version.version for version in made) == [1, 2, 3, 4, 5, 6]
    assert len({version.digest for version in made}) == 6


def test_a_damaged_file_is_never_loaded(repository, folder):
    version = repository.publish("dataset", "chats", folder, {})
    key = f"datasets/chats/objects/{version.digest}/sub/b.txt"
    repository.store.write(key, b"c" * 1000)
    with pytest.raises(IntegrityError, match=r"sub/b.txt does not match"):
        fetched_folder(repository, version)


def test_a_damaged_cached_copy_is_replaced(repository, folder):
    version = repository.publish("dataset", "chats", folder, {})
    cached = fetched_folder(repository, version)
    (cached / "a.json").write_text("tampered")
    assert (fetched_folder(repository, version) / "a.json").read_text() == "{}"


def test_a_missing_file_and_a_damaged_manifest_are_integrity_errors(repository, folder):
    version = repository.publish("dataset", "chats", folder, {})
    root = f"datasets/chats/objects/{version.digest}"
    repository.store.delete(f"{root}/a.json")
    with pytest.raises(IntegrityError, match=r"a\.json: named by the manifest, but missing"):
        fetched_folder(repository, version)
    repository.store.write(f"{root}/manifest.json", b"{}")
    with pytest.raises(IntegrityError, match="manifest has sha256"):
        fetched_folder(repository, version)


@pytest.mark.parametrize("failing", ["sub/b.txt", "manifest.json"])
def test_a_failed_upload_commits_nothing(repository, folder, monkeypatch, failing):
    def refuse(original):
        def call(*args, **kwargs):
            if any(str(arg).endswith(failing) for arg in args):
                raise StorageError("refused")
            return original(*args, **kwargs)

        return call

    monkeypatch.setattr(repository.store, "upload", refuse(repository.store.upload))
    monkeypatch.setattr(repository.store, "write", refuse(repository.store.write))
    with pytest.raises(StorageError, match="refused"):
        repository.publish("dataset", "chats", folder, {})
    monkeypatch.undo()
    assert repository.versions("dataset", "chats") == []
    with pytest.raises(NotFoundError, match="no versions"):
        repository.latest("dataset", "chats")


def test_an_unknown_version_names_the_known_ones(repository, folder):
    repository.publish("dataset", "chats", folder, {})
    with pytest.raises(NotFoundError, match="no version 7; versions: 1"):
        repository.version("dataset", "chats", 7)


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", "-a", "a" * 64, "ä"])
def test_names_cannot_become_paths(repository, folder, name):
    with pytest.raises(InputError, match="not allowed"):
        repository.publish("dataset", name, folder, {})


def test_the_cache_keeps_its_bound_and_the_newest(folder, tmp_path):
    uri = (tmp_path / "store").as_uri()
    repository = repository_from(StoreConfig(uri=uri, cache=tmp_path / "cache", cache_gib=1500 / 2**30), {})
    fetched = []
    for n in range(3):
        fetched.append(fetched_folder(repository, repository.publish("dataset", "c", folder, {"n": n})))
        assert fetched[-1].exists()
        os.utime(fetched[-1], (n, n))  # long ago, or it would count as in use
    assert [path.exists() for path in fetched] == [False, False, True]


def test_what_was_made_with_knowledge_of_a_version_follows_it_or_conflicts(repository, folder):
    first = repository.publish("adapter", "support", folder, {"n": 1}, after=0)
    second = repository.publish("adapter", "support", folder, {"n": 2}, after=first.version)
    with pytest.raises(ConflictError, match="has got version 2 meanwhile"):
        repository.publish("adapter", "support", folder, {"n": 3}, after=first.version)
    assert repository.publish("adapter", "support", folder, {"n": 2}, after=second.version) == second
    # The content of an older version is a version of its own: the newest is what the next change starts from.
    third = repository.publish("adapter", "support", folder, {"n": 1}, after=second.version)
    assert (third.version, third.digest) == (3, first.digest)


def test_one_file_is_fetched_and_checked(repository, folder):
    version = repository.publish("adapter", "support", folder, {})
    name = next(iter(repository.manifest(version).files))
    assert repository.fetch_file(version, name) == (folder / name).read_bytes()
    with pytest.raises(IntegrityError, match="names no such file"):
        repository.fetch_file(version, "other")
    repository.store.write(f"models/support/objects/{version.digest}/{name}", b"damaged")
    with pytest.raises(IntegrityError, match="does not match its sha256"):
        repository.fetch_file(version, name)


@pytest.fixture
def other(repository, tmp_path):
    """The same store as another node sees it."""
    return repository_from(StoreConfig(uri=repository.store.root, cache=tmp_path / "other-node"), {})


@pytest.mark.parametrize("damage", ["a.json", "manifest.json"])
@pytest.mark.parametrize("gone", [True, False])
def test_publishing_again_repairs_what_is_damaged(repository, other, folder, damage, gone):
    version = repository.publish("dataset", "chats", folder, {})
    key = f"datasets/chats/objects/{version.digest}/{damage}"
    repository.store.delete(key) if gone else repository.store.write(key, b"damaged")
    again = repository.publish("dataset", "chats", folder, {})
    assert again.digest == version.digest
    assert (fetched_folder(other, version) / "a.json").read_text() == "{}"


def test_a_damaged_commit_record_is_in_nobody_elses_way(repository, folder):
    first = repository.publish("dataset", "chats", folder, {"n": 1})
    repository.publish("dataset", "chats", folder, {"n": 2})
    repository.store.write("datasets/chats/versions/2.json", b"damaged")
    assert repository.publish("dataset", "chats", folder, {"n": 1}) == first
    assert repository.publish("dataset", "chats", folder, {"n": 3}).version == 3
