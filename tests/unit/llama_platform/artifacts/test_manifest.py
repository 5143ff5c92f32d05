import json
import os

import pytest

from llama_platform.errors import InputError


@pytest.mark.parametrize("file", ["training_args.bin", "x.pkl", "deep/y.PT"])
def test_files_that_can_run_code_are_refused(repository, folder, file):
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(b"x")
    with pytest.raises(InputError, match="can run code"):
        repository.publish("adapter", "a", folder, {})


def test_the_digest_covers_content_and_metadata(repository, folder):
    version = repository.publish("dataset", "chats", folder, {"b": 1, "a": "ü"})
    record = json.loads(repository.store.read("datasets/chats/versions/1.json").content)
    assert record["digest"] == version.digest


def test_a_file_named_as_the_manifest_is_refused(repository, folder):
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="the platform's own"):
        repository.publish("dataset", "chats", folder, {})


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("/etc/passwd"), os.mkfifo])
def test_links_and_pipes_are_never_published(repository, folder, make):
    make(folder / "odd")
    with pytest.raises(InputError, match="odd"):
        repository.publish("dataset", "chats", folder, {})
    assert repository.versions("dataset", "chats") == []
