import json

import pytest

from llama_platform.data.reading.records import read_records
from llama_platform.data.reading.sources import open_sources
from llama_platform.errors import InputError
from llama_platform.storage.open_store import open_store

PAIR = {"input": "hi", "output": "hello"}


def test_sources_must_exist(tmp_path):
    for sources, words in [([], "empty"), ([str(tmp_path)], "no chats there"), ([str(tmp_path / "x")], "no such file")]:
        with pytest.raises(InputError, match=words), open_sources(sources):
            pass


def test_folders_are_read_with_everything_below(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/two.jsonl", "one.json", "notes.md"):
        (tmp_path / name).write_text(json.dumps([PAIR]))
    with open_sources([str(tmp_path)]) as files:
        read = [file.path.name for file in files if file.problem is None]
        assert sorted(read) == ["one.json", "two.jsonl"]


def test_objects_and_prefixes_in_s3_are_sources(s3_uri, tmp_path):
    store = open_store(s3_uri)
    for key in ("chats/a.jsonl", "chats/deep/b.json", "chats/readme.md", "chats-old/c.jsonl"):
        store.write(key, json.dumps(PAIR).encode())
    with open_sources([f"{s3_uri}/chats"]) as files:
        assert [file.name for file in files] == [f"{s3_uri}/chats/{k}" for k in ("a.jsonl", "deep/b.json", "readme.md")]
        assert "text/markdown" in files[2].problem
        (record,) = read_records(files[1])
        assert (record.value, record.where) == (PAIR, f"{s3_uri}/chats/deep/b.json:1")
        kept = files[0].path
    assert not kept.exists()
    with open_sources([f"{s3_uri}/chats/a.jsonl"]) as files:
        assert len(files) == 1
    with pytest.raises(InputError, match="no chats there"), open_sources([f"{s3_uri}/nothing"]):
        pass


def test_what_is_not_read_is_named_by_what_it_is(tmp_path):
    for name in (
        "a.jsonl",
        "b.csv.gz",
        "photo.png",
        "c.arrow",
        "noise",
        ".hid.jsonl",
        ".git/one.json",
        ".git/two.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "link.json").symlink_to("/etc/passwd")
    with open_sources([str(tmp_path)]) as files:
        problems = {file.path.name: file.problem for file in files}
    assert problems.pop("link.json").startswith("a link")
    assert problems.pop("c.arrow").startswith("not read: ")
    assert problems == {
        "a.jsonl": None,
        "b.csv.gz": None,
        "photo.png": "not read: image/png",
        "noise": "not read: a file without a suffix",
        ".hid.jsonl": "hidden, and so not read",
        ".git": "hidden, and so not read",
    }


def test_patterns_leave_files_out(tmp_path):
    for name in ("a.jsonl", "old/b.jsonl", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(PAIR))
    with open_sources([str(tmp_path)], ["old/*", "*.txt"]) as files:
        assert [file.path.name for file in files] == ["a.jsonl"]
