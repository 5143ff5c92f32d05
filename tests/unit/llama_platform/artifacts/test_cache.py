import multiprocessing
import os
import time

import pytest

from llama_platform.artifacts.cache import LEFT_BEHIND_S, ArtifactCache
from llama_platform.artifacts.manifest import describe_folder
from llama_platform.errors import IntegrityError


@pytest.fixture
def artifacts(tmp_path):
    """Three artifacts of 1,000 bytes, as (digest, manifest, download)."""
    made = []
    for letter in "abc":
        folder = tmp_path / letter
        folder.mkdir()
        (folder / "file").write_text(letter * 1000)
        manifest = describe_folder("dataset", letter, folder, {})
        made.append(
            (manifest.digest(), manifest, lambda file, path, f=folder: path.write_bytes((f / file).read_bytes()))
        )
    return made


def test_what_is_in_use_is_never_evicted(tmp_path, artifacts):
    cache = ArtifactCache(tmp_path / "cache", max_bytes=1500)
    with cache.held(*artifacts[0]) as first:
        os.utime(first, (0, 0))  # as if it had been fetched long ago
        with cache.held(*artifacts[1]), cache.held(*artifacts[2]):
            assert (first / "file").read_text() == "a" * 1000
    with cache.held(*artifacts[2]):
        assert not first.exists()


def hold(folder, artifact, held, released):
    with ArtifactCache(folder, 1500).held(*artifact):
        held.set()
        released.wait()


def test_what_another_process_uses_is_kept_until_it_dies(tmp_path, artifacts):
    context = multiprocessing.get_context("fork")
    held, released = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path / "cache", artifacts[0], held, released))
    other.start()
    try:
        assert held.wait(20)
        cache, first = ArtifactCache(tmp_path / "cache", 1500), tmp_path / "cache" / artifacts[0][0]
        with cache.held(*artifacts[1]):
            assert first.exists()
    finally:
        other.kill()
        other.join()
    with cache.held(*artifacts[2]):
        assert not first.exists()


def test_a_damaged_copy_is_mended_under_its_readers(tmp_path, artifacts):
    cache = ArtifactCache(tmp_path / "cache", 10**6)
    with cache.held(*artifacts[0]) as folder:
        reader = (folder / "file").open()
        (folder / "file").rename(folder / "moved")
        (folder / "file").write_text("tampered")
        with cache.held(*artifacts[0]) as again:
            assert (again / "file").read_text() == "a" * 1000
        with reader:
            assert reader.read() == "a" * 1000


def test_a_download_that_does_not_match_leaves_nothing(tmp_path, artifacts):
    cache, (digest, manifest, _) = ArtifactCache(tmp_path / "cache", 10**6), artifacts[0]
    with (
        pytest.raises(IntegrityError, match="does not match"),
        cache.held(digest, manifest, lambda _, p: p.write_text("x")),
    ):
        pass
    assert not (tmp_path / "cache" / digest).exists()


def test_downloads_of_killed_processes_go_by_age(tmp_path, artifacts):
    left = tmp_path / "cache/.incoming-x"
    left.mkdir(parents=True)
    with ArtifactCache(tmp_path / "cache", 10**6).held(*artifacts[0]):
        assert left.exists()
    os.utime(left, (0, time.time() - LEFT_BEHIND_S - 1))
    with ArtifactCache(tmp_path / "cache", 10**6).held(*artifacts[0]):
        assert not left.exists()
