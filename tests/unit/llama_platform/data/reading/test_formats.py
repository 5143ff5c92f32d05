import json

import pytest

from llama_platform.data.reading.formats import detect_format, parse_chat, parse_preference, unread_content
from llama_platform.data.reading.records import read_records
from llama_platform.data.reading.sources import SourceFile
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
        (
            {"context": "Rome.", "question": "where?", "answer": "there"},
            [Message("user", "Rome.\n\nwhere?"), Message("assistant", "there")],
        ),
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
    text = "### Human: a\n### Assistant: b\n\nsecond paragraph\n### Human: c\n### Assistant: d\n\n### Human: and?\n### Assistant:     yes\n\n\n### Human: e\n### Assistant: f\n"
    first, second = read(tmp_path, text, "chats.txt")
    assert [m.content for m in parse_chat(first.value, "text")] == [
        "a", "b\n\nsecond paragraph", "c", "d", "and?", "    yes",
    ]  # fmt: skip
    assert (first.where[-2:], second.where[-3:]) == (":1", ":12")


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


TURNS = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


@pytest.mark.parametrize(
    ("form", "record"),
    [
        ("sharegpt", {"system": "be kind", "conversations": TURNS}),
        ("messages", {"system": "be kind", "messages": MESSAGES}),
        ("alpaca", {"system": "be kind", "instruction": "hi", "output": "hello"}),
        ("pairs", {"system_prompt": "be kind", "input": "hi", "output": "hello"}),
    ],
)
def test_a_system_text_beside_the_turns_is_read(form, record):
    assert parse_chat(record, form) == [Message("system", "be kind"), *PAIR]
    assert list(unread_content(record, form)) == []
    with pytest.raises(InputError, match="'system' is int, not text"):
        parse_chat(record | {"system": 5}, form)


def test_the_exchanges_before_an_alpaca_record_are_read():
    record = {"instruction": "hi", "output": "hello", "history": [["a", "b"], ["c", "d"]]}
    assert [m.content for m in parse_chat(record, "alpaca")] == ["a", "b", "c", "d", "hi", "hello"]
    for history in ("x", [["a"]], [["a", 1]]):
        with pytest.raises(InputError, match="'history'"):
            parse_chat(record | {"history": history}, "alpaca")


def test_dolly_is_alpaca_with_other_names(tmp_path):
    (record,) = read(
        tmp_path, json.dumps([{"instruction": "add", "context": "1 2", "response": "3", "category": "qa"}])
    )
    assert [m.content for m in parse_chat(record.value, detect_format(record))] == ["add\n\n1 2", "3"]


@pytest.mark.parametrize(
    ("form", "record", "found"),
    [
        (
            "messages",
            {"messages": MESSAGES, "tools": [{"name": "f"}], "tool_choice": "f"},
            [("unread", "'tool_choice'")],
        ),
        ("alpaca", {"instruction": "q", "output": "a", "tools": "[{}]"}, [("unread", "'tools'")]),
        ("sharegpt", {"conversations": TURNS, "images": ["a.png"]}, [("media", "'images'")]),
        ("pairs", {"question": "q", "answer": "a", "context": "c"}, []),
        ("pairs", {"question": "q", "answer": "a", "passage": "c"}, [("unread_keys", "'passage'")]),
        ("pairs", {"question": "q", "answer": "a", "label": 0.5}, [("unread_keys", "'label'")]),
        (
            "messages",
            {"messages": [MESSAGES[0], {**MESSAGES[1], "annotations": [1]}]},
            [("unread", "turn 2: 'annotations'")],
        ),
        (
            "messages",
            {"messages": [MESSAGES[0], {**MESSAGES[1], "reasoning_content": "x"}]},
            [("unread_keys", "turn 2: 'reas")],
        ),
        ("messages", {"messages": MESSAGES, "id": 7, "source": "x", "tools": [], "tool_choice": None}, []),
        ("text", {"text": "### Human: a", "note": "x"}, [("unread_keys", "'note'")]),
    ],
)
def test_what_is_not_trained_on_is_told(form, record, found):
    told = list(unread_content(record, form))
    assert len(told) == len(found)
    for (kind, problem), (wanted, words) in zip(told, found, strict=True):
        assert (kind, problem.startswith(words)) == (wanted, True)


def test_a_picture_is_no_text_whatever_its_part_holds():
    turn = {"role": "user", "content": [{"type": "image_url", "image_url": {}, "text": "see"}]}
    with pytest.raises(InputError, match="not 'image_url'"):
        parse_chat({"messages": [turn]}, "messages")


CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
BAD = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "go away"}]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "hi", "chosen": "hello", "rejected": "go away"},
        {"question": "hi", "chosen": "hello", "rejected": "go away"},
        {"prompt": CHAT[:1], "chosen": CHAT[1:], "rejected": BAD[1:]},
        {"chosen": CHAT, "rejected": BAD},
        {"prompt": "hi", "chosen": CHAT, "rejected": BAD},
    ],
)
def test_preferences(tmp_path, record):
    (read_back,) = read(tmp_path, json.dumps([record]))
    assert detect_format(read_back) == "preferences"
    assert parse_preference(read_back.value) == (PAIR, "go away")
    assert list(unread_content(record, "preferences")) == []


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"chosen": CHAT, "rejected": [{"role": "user", "content": "x"}, BAD[1]]}, "different chats"),
        ({"prompt": "hi", "chosen": CHAT[:1], "rejected": CHAT[:1]}, "end with an answer"),
        ({"prompt": "hi", "chosen": 5, "rejected": "x"}, "'chosen' is neither"),
        ({"prompt": "hi", "chosen": [], "rejected": "x"}, "'chosen' is neither"),
    ],
)
def test_what_is_no_preference_is_named(record, told):
    with pytest.raises(InputError, match=told):
        parse_preference(record)


def test_what_turns_of_preferences_hold_beside_is_told():
    record = {"prompt": "hi", "chosen": [{**CHAT[1], "reasoning_content": "x"}], "rejected": BAD[1:]}
    assert list(unread_content(record, "preferences")) == [
        ("unread_keys", "'chosen', turn 1: 'reasoning_content' is not trained on")
    ]
