import json
import random

import pytest

from llama_platform.data.records import WINDOW_CHARS, BrokenRecord, SourceFile, open_sources, read_records
from llama_platform.errors import InputError
from llama_platform.storage.open_store import open_store

PAIR = {"input": "hi", "output": "hello"}


def read(tmp_path, text, name="chats.json"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_records(SourceFile(path, name)))


def test_records_of_a_pretty_printed_list_know_their_lines(tmp_path):
    records = read(tmp_path, json.dumps([PAIR] * 3, indent=1))
    assert [record.where for record in records] == ["chats.json:2", "chats.json:6", "chats.json:10"]


def test_a_list_larger_than_the_window_is_streamed_whole_with_its_lines(tmp_path):
    random.seed(0)
    values = [{"input": 'a\\"]}{[' * random.randint(1, 4000), "output": n} for n in range(400)]
    text = json.dumps(values, indent=1)
    assert len(text) > 3 * WINDOW_CHARS
    records = read(tmp_path, text)
    assert [record.value for record in records] == values
    assert [record.where for record in records] == [f"chats.json:{2 + 4 * n}" for n in range(400)]


def test_an_error_behind_the_first_window_has_its_line(tmp_path):
    good = json.dumps({"input": "x" * 500, "output": "y"})
    lines = ["[", *[f"{good}," for _ in range(4000)], '{"input": oops}', "]"]
    with pytest.raises(InputError, match=r"chats\.json:4002: not valid JSON"):
        read(tmp_path, "\n".join(lines))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b" \n\n", "empty file"),
        (b"hello there", ":1: unknown format"),
        (b'[\n{"input": "a", "output": "b"},\n{"input": oops}\n]', ":3: not valid JSON"),
        (b'[{"input": "a", "output": "b"},\n', "not closed"),
        (b'[{"a": 1}\n{"b": 2}]', "comma is missing"),
        (b'[{"a": 1},, {"b": 2}]', "not valid JSON"),
        (b'[{"a": 1}]\n[{"b": 2}]', ":1: not valid JSON: more text after the end"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe[\x00]\x00", ":1: UTF-16"),
    ],
)
def test_files_that_cannot_be_read_name_the_line(tmp_path, content, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, content)


def test_a_broken_line_does_not_hide_the_others(tmp_path):
    good = json.dumps(PAIR)
    records = read(tmp_path, f"{good}\n{{oops\n{good}\n", "c.jsonl")
    assert isinstance(records[1], BrokenRecord)
    assert records[1].where == "c.jsonl:2"
    assert len(records) == 3


def test_a_lone_record_may_stand_on_several_lines(tmp_path):
    (record,) = read(tmp_path, json.dumps(PAIR, indent=1))
    assert record.value == PAIR


def test_bytes_that_are_not_utf8_show_as_replacement_characters(tmp_path):
    (record,) = read(tmp_path, b'{"input": "caf\xe9", "output": "x"}')
    assert record.value["input"] == "caf\ufffd"


def test_windows_line_ends_make_no_difference(tmp_path):
    text = "### Human: a\n### Assistant: b\n\n### Human: c\n### Assistant: d\n"
    assert [r.where for r in read(tmp_path, text.replace("\n", "\r\n"), "c.txt")] == ["c.txt:1", "c.txt:4"]


def test_sources_must_exist(tmp_path):
    for sources, words in [([], "empty"), ([str(tmp_path)], "no .* files"), ([str(tmp_path / "x")], "no such file")]:
        with pytest.raises(InputError, match=words), open_sources(sources):
            pass


def test_folders_are_read_with_everything_below(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/two.jsonl", "one.json", "notes.md"):
        (tmp_path / name).write_text(json.dumps([PAIR]))
    with open_sources([str(tmp_path)]) as files:
        assert [file.path.name for file in files] == ["two.jsonl", "one.json"]


def test_objects_and_prefixes_in_s3_are_sources(s3_uri, tmp_path):
    store = open_store(s3_uri)
    for key in ("chats/a.jsonl", "chats/deep/b.json", "chats/readme.md", "chats-old/c.jsonl"):
        store.write(key, json.dumps(PAIR).encode())
    with open_sources([f"{s3_uri}/chats"]) as files:
        assert [file.name for file in files] == [f"{s3_uri}/chats/a.jsonl", f"{s3_uri}/chats/deep/b.json"]
        (record,) = read_records(files[1])
        assert (record.value, record.where) == (PAIR, f"{s3_uri}/chats/deep/b.json:1")
        kept = files[0].path
    assert not kept.exists()
    with open_sources([f"{s3_uri}/chats/a.jsonl"]) as files:
        assert len(files) == 1
    with pytest.raises(InputError, match="objects there"), open_sources([f"{s3_uri}/nothing"]):
        pass
