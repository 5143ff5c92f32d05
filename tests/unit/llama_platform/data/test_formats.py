import json

import pytest

from llama_platform.data.formats import detect_format, parse_chat
from llama_platform.data.records import SourceFile, read_records
from llama_platform.errors import InputError
from llama_platform.models.prompt import Message

PAIR = [Message("user", "hi"), Message("assistant", "hello")]
EXAMPLES = {
    "sharegpt": {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
    "messages": {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]},
    "alpaca": {"instruction": "hi", "input": "", "output": "hello"},
    "pairs": {"input": "hi", "output": "hello"},
    "text": {"text": "### Human: hi\n### Assistant: hello"},
}


def read(tmp_path, text, name="chats.json"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_records(SourceFile(path, str(path))))


@pytest.mark.parametrize("form", EXAMPLES)
@pytest.mark.parametrize("lines", [False, True])
def test_every_format_is_detected_and_parsed(tmp_path, form, lines):
    records = [EXAMPLES[form]] * 2
    text = "\n".join(map(json.dumps, records)) if lines else json.dumps(records, indent=2)
    first, second = read(tmp_path, text)
    assert detect_format(first) == form
    assert parse_chat(second.value, form) == PAIR


@pytest.mark.parametrize(
    ("record", "messages"),
    [
        ({"instruction": "add", "input": "1 2", "output": "3"}, [Message("user", "add\n\n1 2"), Message("assistant", "3")]),
        ({"prompt": "hi", "completion": "hello"}, PAIR),
        ({"system": "be kind", "input": "hi", "output": "hello"}, [Message("system", "be kind"), *PAIR]),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "assistant", "content": "hello"}]},
            PAIR,
        ),
        ({"conversations": [{"role": "USER", "content": "hi"}, {"role": "model", "content": "hello"}]}, PAIR),
    ],
)  # fmt: skip
def test_variants(tmp_path, record, messages):
    (read_back,) = read(tmp_path, json.dumps([record]))
    assert parse_chat(read_back.value, detect_format(read_back)) == messages


def test_tagged_text_file_holds_several_chats_with_lines(tmp_path):
    text = "### Human: a\n### Assistant: b\n\nsecond paragraph\n### Human: c\n### Assistant: d\n\n### Human: e\n### Assistant: f\n"
    first, second = read(tmp_path, text, "chats.txt")
    assert [m.content for m in parse_chat(first.value, "text")] == ["a", "b\n\nsecond paragraph", "c", "d"]
    assert (first.where[-2:], second.where[-2:]) == (":1", ":8")


@pytest.mark.parametrize("value", [{"a": 1}, [1], 5, {"text": "no tags"}, {"messages": "x"}])
def test_unknown_records_are_named(tmp_path, value):
    (record,) = read(tmp_path, json.dumps([value]))
    with pytest.raises(InputError, match=r"chats\.json:1: unknown format"):
        detect_format(record)


@pytest.mark.parametrize(
    ("form", "value", "words"),
    [
        ("sharegpt", {"conversations": []}, "no list of turns"),
        ("sharegpt", {"conversations": [{"from": "alien", "value": "x"}]}, "turn 1: unknown role 'alien'"),
        ("messages", {"messages": [{"role": "user", "content": None}]}, "content is NoneType"),
        ("messages", {"messages": ["x"]}, "turn 1 is a str"),
        ("pairs", {"input": 3, "output": "x"}, "'input' is int"),
        ("alpaca", [], "not an object"),
        ("text", {"text": "preface ### Human: x"}, "text before the first tag"),
    ],
)
def test_malformed_records_say_what_is_wrong(form, value, words):
    with pytest.raises(InputError, match=words):
        parse_chat(value, form)


@pytest.mark.parametrize(("flag", "counts"), [({"train": False}, False), ({"weight": 0}, False), ({"weight": 1}, True)])
def test_a_turn_may_say_whether_it_is_trained(flag, counts):
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello", **flag}]
    _, answer = parse_chat({"messages": turns}, "messages")
    assert answer.counts() is counts


def test_a_flag_that_is_neither_is_named():
    turns = [{"role": "user", "content": "hi", "train": "no"}]
    with pytest.raises(InputError, match="turn 1: 'train' is 'no'"):
        parse_chat({"messages": turns}, "messages")
