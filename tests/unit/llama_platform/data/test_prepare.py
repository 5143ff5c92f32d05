import json

import pytest

from llama_platform.data.prepare import Chat, DataConfig, prepare, split, write_dataset
from llama_platform.data.tokenize import IGNORED_LABEL, collate, load_tokenized
from llama_platform.errors import InputError
from llama_platform.models.prompt import Message


def chat(*texts):
    return {"messages": [{"role": ("user", "assistant")[n % 2], "content": t} for n, t in enumerate(texts)]}


@pytest.fixture
def write(tmp_path):
    def write(*records):
        path = tmp_path / "chats.jsonl"
        path.write_text("\n".join(json.dumps(record) for record in records))
        return DataConfig(sources=(str(path),), max_tokens=64)

    return write


GOOD = [chat(f"question {n}", f"answer {n}") for n in range(20)]


def test_counts_split_and_report(write, tiny_template):
    data = prepare(write(*GOOD, GOOD[3]), tiny_template)
    chats = data.report["chats"]
    assert (chats["kept"], chats["duplicate"]) == (20, 1)
    assert len(data.train) + len(data.evaluation) == 20
    assert len(data.evaluation) >= 1
    expected = tiny_template.encode_chat(data.train[0].messages)
    assert data.train[0].num_tokens == len(expected.input_ids)
    assert data.report["tokens"]["train"]["trained"] == sum(c.num_trained_tokens for c in data.train)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (chat("a", "b") | {"messages": [{"role": "assistant", "content": "x"}]}, "'assistant' where 'user' must speak"),
        (chat("a", " ", "c", "d"), "turn 2, by 'assistant', is empty"),
        ({"messages": [{"role": "user", "content": "a"}] * 2}, "turn 2 is by 'user'"),
        ({"messages": 5}, "no list of turns"),
        (chat("half \ud83d", "x"), "turn 1 holds half a character"),
    ],
)
def test_invalid_chats_stop_the_job_with_their_line(write, tiny_template, record, words):
    config = write(*GOOD[:3], record)
    with pytest.raises(InputError) as caught:
        prepare(config, tiny_template)
    assert "chats.jsonl:4: " in str(caught.value)
    assert words in str(caught.value)
    kept = prepare(config.model_copy(update={"on_invalid": "drop"}), tiny_template)
    assert (kept.report["chats"]["kept"], kept.report["chats"]["invalid"]) == (3, 1)


def test_a_long_chat_is_trimmed_by_exchanges_and_counted(write, tiny_template):
    long = chat("one", "two", "three", "word " * 80)
    config = write(*GOOD[:3], long, chat("word " * 90, "x"))
    data = prepare(config, tiny_template)
    assert (data.report["chats"]["trimmed"], data.report["chats"]["too_long"]) == (1, 1)
    texts = [[m.content for m in c.messages] for c in data.train + data.evaluation]
    assert ["one", "two"] in texts
    assert all(c.num_tokens <= 64 for c in data.train + data.evaluation)
    dropped = prepare(config.model_copy(update={"too_long": "drop"}), tiny_template)
    assert dropped.report["chats"]["too_long"] == 2
    with pytest.raises(InputError, match=r"over the limit of 64[\s\S]*data.too_long=trim"):
        prepare(config.model_copy(update={"too_long": "fail"}), tiny_template)


def test_an_unanswered_question_is_left_out_and_counted(write, tiny_template):
    data = prepare(write(*GOOD[:3], chat("a", "b", "c")), tiny_template)
    assert data.report["chats"]["unanswered"] == 1
    assert ["a", "b"] in [[m.content for m in c.messages] for c in data.train + data.evaluation]


def test_too_few_chats_is_an_error(write, tiny_template):
    with pytest.raises(InputError, match="at least two"):
        prepare(write(GOOD[0]), tiny_template)


def test_a_chat_keeps_its_side_when_others_come():
    chats = [Chat((Message("user", f"q{n}"), Message("assistant", "a")), 4, 2, "x:1") for n in range(400)]
    train, held_out = split(chats, 0.1, seed=0)
    assert 20 <= len(held_out) <= 60
    more_train, more_held_out = split(chats[:200], 0.1, seed=0)
    assert {c.key() for c in more_held_out} <= {c.key() for c in held_out}
    assert not {c.key() for c in train} & {c.key() for c in held_out}
    assert {c.key() for c in more_train} <= {c.key() for c in train}
    assert [len(side) for side in split(chats[:2], 0.001, seed=0)] == [1, 1]


def test_written_chats_are_tokenized_as_rendered(write, tiny_template, tmp_path):
    data = prepare(write(*GOOD), tiny_template)
    folder = tmp_path / "digest"
    folder.mkdir()
    write_dataset(data, folder)
    rows = load_tokenized(folder / "train.parquet", tiny_template, tmp_path / "cache")
    expected = tiny_template.encode_chat(data.train[0].messages)
    assert (rows[0]["input_ids"], rows[0]["trained"]) == (expected.input_ids, expected.trained)
    assert len(rows) == len(data.train)


def test_collate_pads_and_masks():
    rows = [
        {"input_ids": [5, 6, 7], "trained": [False, True, True]},
        {"input_ids": [8], "trained": [True]},
    ]
    batch = collate(rows, pad_token_id=3)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 3, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED_LABEL, 6, 7], [8, IGNORED_LABEL, IGNORED_LABEL]]


def test_an_invalid_chat_stops_the_job_however_many_other_findings_there_are(write, tiny_template):
    trimmed = [chat(f"one {n}", "two", "three", "word " * 80) for n in range(120)]
    with pytest.raises(InputError, match="turn 2, by 'assistant', is empty"):
        prepare(write(*trimmed, chat("a", " ", "c", "d")), tiny_template)


def test_a_bound_on_chats_is_reported(write, tiny_template):
    config = write(*GOOD).model_copy(update={"max_chats": 5})
    report = prepare(config, tiny_template).report
    assert (report["chats"]["kept"], report["chats"]["not_read_after"]) == (5, 5)
