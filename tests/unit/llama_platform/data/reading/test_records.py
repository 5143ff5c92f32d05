import gzip
import json
import random
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llama_platform.data.reading.records import WINDOW_CHARS, BrokenRecord, read_records
from llama_platform.data.reading.sources import SourceFile
from llama_platform.errors import InputError

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
    text = "### Human: a\n### Assistant: b\n\n\n### Human: c\n### Assistant: d\n"
    assert [r.where for r in read(tmp_path, text.replace("\n", "\r\n"), "c.txt")] == ["c.txt:1", "c.txt:5"]


@pytest.mark.parametrize(
    ("between", "chats"),
    [("\n", 1), ("\n\n", 1), ("\n \n\t\n", 2), ("\n---\n", 2), ("\n\n</s>\n\n", 2), ("\n\n### System: be kind\n", 2)],
)
def test_what_parts_the_chats_of_a_text(tmp_path, between, chats):
    one = "### Human: a\n### Assistant: b"
    assert len(read(tmp_path, one + between + one, "c.txt")) == chats


def test_an_empty_line_parts_chats_where_that_is_wanted(tmp_path):
    path = tmp_path / "c.txt"
    path.write_text("### Human: a\n### Assistant: b\n\n### Human: c\n### Assistant: d\n")
    records = read_records(SourceFile(path, "c.txt"), "one_empty_line")
    assert [record.where for record in records] == ["c.txt:1", "c.txt:4"]


def test_tables_are_read_row_by_row_with_their_lines(tmp_path):
    records = read(tmp_path, 'prompt,completion\nhi,"two\r\nlines"\nwho,me\n', "c.csv")
    assert [(r.value["completion"], r.where) for r in records] == [("two\r\nlines", "c.csv:2"), ("me", "c.csv:4")]
    (record,) = read(tmp_path, "prompt\tcompletion\nhi\thello\n", "c.tsv")
    assert record.value == {"prompt": "hi", "completion": "hello"}


def test_a_row_of_another_width_is_broken_and_the_others_go_on(tmp_path):
    records = read(tmp_path, "prompt,completion\na,b,c\nd\ne,f\n", "c.csv")
    assert [type(record).__name__ for record in records] == ["BrokenRecord", "BrokenRecord", "Record"]
    assert "not 2 columns" in records[0].problem


def test_parquet_is_read_whatever_its_columns(tmp_path):
    chats = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]] * 100
    table = pa.table({"messages": chats, "at": [datetime(2026, 1, 1)] * 100})
    pq.write_table(table, tmp_path / "c.parquet")
    records = list(read_records(SourceFile(tmp_path / "c.parquet", "c.parquet")))
    assert (len(records), records[99].where) == (100, "c.parquet:100")
    assert records[0].value == {"messages": chats[0], "at": "2026-01-01 00:00:00"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.jsonl", json.dumps(PAIR)),
        ("c.csv", "input,output\nhi,hello\n"),
        ("c.txt", "### Human: hi\n### Assistant: x"),
    ],
)
def test_gzip_is_read_as_what_it_holds(tmp_path, name, text):
    (record,) = read(tmp_path, gzip.compress(text.encode(), mtime=0), f"{name}.gz")
    (plain,) = read(tmp_path, text, name)
    assert record.value == plain.value


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.jsonl.gz", gzip.compress(b'{"input": "hi"}' * 9, mtime=0)[:-20], "damaged gzip"),
        ("c.parquet", b"PAR1 and nothing else", "not valid Parquet"),
        ("c.csv", b'a,b\n"open', "c.csv:2: not valid CSV"),
        ("c.csv", b"", "empty file"),
    ],
)
def test_damaged_tables_and_archives_are_named(tmp_path, name, content, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, content, name)


def test_text_that_parquet_calls_bytes_is_text(tmp_path):
    table = pa.table({"prompt": pa.array([b"caf\xc3\xa9", b"\xff"], pa.binary()), "completion": ["x", "y"]})
    pq.write_table(table, tmp_path / "c.parquet")
    first, second = read_records(SourceFile(tmp_path / "c.parquet", "c.parquet"))
    assert first.value["prompt"] == "café"
    assert second.value["prompt"] == "\ufffd"


def test_a_number_of_thousands_of_digits_is_a_broken_record(tmp_path):
    good = json.dumps(PAIR)
    records = read(tmp_path, f'{good}\n{{"n": {"9" * 5000}}}\n{good}\n', "c.jsonl")
    assert "not valid JSON" in records[1].problem
    with pytest.raises(InputError, match=":1: not valid JSON"):
        read(tmp_path, f'[{{"n": {"9" * 5000}}}]')
