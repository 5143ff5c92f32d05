import os
import time

import pytest

from llama_platform.errors import InputError
from llama_platform.storage.local import LEFT_BEHIND_S, LocalStore


def test_files_of_killed_writers_go_by_age(tmp_path):
    store = LocalStore(tmp_path)
    store.write("a", b"1")
    left = tmp_path / ".locks/tmp6co6kri0"
    left.write_bytes(b"half")
    LocalStore(tmp_path).write("a", b"2")
    assert left.exists()
    os.utime(left, (0, time.time() - LEFT_BEHIND_S - 1))
    LocalStore(tmp_path).write("a", b"3")
    assert not left.exists()
    assert len(list((tmp_path / ".locks").iterdir())) == 1  # the lock file stays


def test_links_are_no_objects(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "store/link").symlink_to(tmp_path / "secret")
    store = LocalStore(tmp_path / "store")
    assert list(store.list_keys("")) == []
    with pytest.raises(InputError, match="a link"):
        store.read("link")
