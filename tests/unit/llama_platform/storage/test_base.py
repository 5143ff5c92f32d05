"""One contract for every ObjectStore; the S3 server is a real process (tests/conftest.py)."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from llama_platform.errors import InputError, NotFoundError, StorageError
from llama_platform.storage.base import PreconditionFailedError
from llama_platform.storage.open_store import open_store


@pytest.fixture(params=["file", "s3"])
def store(request, tmp_path):
    if request.param == "file":
        return open_store((tmp_path / "store").as_uri())
    return open_store(request.getfixturevalue("s3_uri"))


def test_reads_what_was_written(store):
    etag = store.write("a/b.json", b"one")
    stored = store.read("a/b.json")
    assert (stored.content, stored.etag) == (b"one", etag)


def test_what_has_not_changed_is_not_read_again(store):
    etag = store.write("a", b"1")
    assert store.read_if_changed("a", None).content == b"1"
    assert store.read_if_changed("a", etag) is None
    store.write("a", b"2")
    assert store.read_if_changed("a", etag).content == b"2"
    with pytest.raises(NotFoundError):
        store.read_if_changed("nothing", etag)


def test_an_objects_size_is_known_without_reading_it(store):
    store.write("a", b"12345")
    assert store.size("a") == 5
    with pytest.raises(NotFoundError):
        store.size("nothing")


def test_folders_are_listed_by_name(store):
    for key in ("models/b/versions/1.json", "models/a/x", "models/file", "other/c/x"):
        store.write(key, b"1")
    assert store.list_folders("models/") == ["a", "b"]
    assert store.list_folders("nothing/") == []


def test_a_missing_object_is_named(store, tmp_path):
    with pytest.raises(NotFoundError, match="nothing/here"):
        store.read("nothing/here")
    with pytest.raises(NotFoundError):
        store.download("nothing/here", tmp_path / "x")


def test_write_if_absent_never_overwrites(store):
    store.write("v/1.json", b"first", if_absent=True)
    with pytest.raises(PreconditionFailedError):
        store.write("v/1.json", b"second", if_absent=True)
    assert store.read("v/1.json").content == b"first"


def test_write_if_match_loses_against_a_change(store):
    old = store.write("a", b"1")
    new = store.write("a", b"2", if_match=old)
    with pytest.raises(PreconditionFailedError):
        store.write("a", b"3", if_match=old)
    assert store.read("a").etag == new


def test_of_racing_writers_one_wins(store):
    def attempt(n):
        try:
            store.write("race", str(n).encode(), if_absent=True)
        except PreconditionFailedError:
            return None
        return n

    with ThreadPoolExecutor(8) as pool:
        winners = [n for n in pool.map(attempt, range(8)) if n is not None]
    assert len(winners) == 1
    assert store.read("race").content == str(winners[0]).encode()


@pytest.mark.parametrize("size", [0, 5, 20 * 1024 * 1024 + 7], ids=["empty", "small", "multipart"])
def test_files_arrive_whole(store, tmp_path, size):
    source = tmp_path / "source"
    source.write_bytes(bytes(i % 251 for i in range(1000)) * (size // 1000) + b"x" * (size % 1000))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    store.upload(source, "files/f", digest)
    store.download("files/f", tmp_path / "copy")
    assert hashlib.sha256((tmp_path / "copy").read_bytes()).hexdigest() == digest


def test_lists_by_prefix_in_order(store):
    for key in ["x/2", "x/1", "xy/3", "z"]:
        store.write(key, b"")
    assert list(store.list_keys("x/")) == ["x/1", "x/2"]
    assert list(store.list_keys("nothing/")) == []


def test_delete_is_idempotent(store):
    store.write("d", b"")
    store.delete("d")
    store.delete("d")
    with pytest.raises(NotFoundError):
        store.read("d")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a/../../b", "a//b", "a\\b", "a\x00b", "."])
def test_keys_cannot_leave_the_root(store, key):
    with pytest.raises(InputError, match="not allowed"):
        store.write(key, b"")


def test_a_missing_bucket_says_what_to_do(s3_uri):
    store = open_store("s3://no-such-bucket-here/prefix")
    for call in (lambda: store.write("k", b""), lambda: list(store.list_keys("")), lambda: store.read("k")):
        with pytest.raises(StorageError, match=r"'no-such-bucket-here' does not exist; create it"):
            call()


def test_no_permission_names_the_permission(s3_uri, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StorageError, match="cannot read s3://"):
        open_store(s3_uri).read("k")


def test_signs_of_urls_are_ordinary_in_keys_of_s3(s3_uri):
    open_store(f"{s3_uri}/c#/q?a").write("x.md", b"1")
    assert open_store(s3_uri).read("c#/q?a/x.md").content == b"1"


def test_what_the_store_holds_is_compared_with_a_file(store, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * (20 * 2**20))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert not store.matches(path, "big", digest)
    store.upload(path, "big", digest)
    assert store.matches(path, "big", digest)
    store.write("big", b"y" * 100)
    assert not store.matches(path, "big", digest)
