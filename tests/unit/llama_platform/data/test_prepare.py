import json

import pytest

from datasets_of_sources import GOOD, chat
from llama_platform.data.checks.policies import Policies
from llama_platform.data.tokenize import load_tokenized
from llama_platform.errors import InputError
from llama_platform.models.prompt import Message


def texts(rows):
    return [[m["content"] for m in row["messages"]] for side in rows.values() for row in side]


def test_counts_split_and_report(prepare_chats, tiny_template):
    report, rows, folder = prepare_chats(*GOOD, GOOD[3])
    assert (report.chats.read, report.chats.kept) == (41, 40)
    assert report.findings["duplicate"].count == 1
    assert report.findings["duplicate"].places[0].where.endswith("chats.jsonl:41")
    assert len(rows["train"]) + len(rows["eval"]) == 40
    assert len(rows["eval"]) >= 1
    first = rows["train"][0]
    expected = tiny_template.encode_chat([Message(**m) for m in first["messages"]])
    assert first["num_tokens"] == len(expected.input_ids)
    assert report.tokens["train"].trained == sum(row["num_trained_tokens"] for row in rows["train"])
    assert json.loads((folder / "report.json").read_text()) == report.as_json()
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 4
    assert '<span class="trained">' in page


def test_a_long_chat_is_cut_by_exchanges_and_counted(prepare_chats):
    long, hopeless = chat("one", "two", "three", "word " * 80), chat("word " * 90, "x")
    report, rows, _ = prepare_chats(*GOOD[:3], long, hopeless)
    assert report.findings["too_long"].actions == {"fix": 1, "drop": 1}
    assert ["one", "two"] in texts(rows)
    assert all(row["num_tokens"] <= 64 for side in rows.values() for row in side)
    report, _, _ = prepare_chats(*GOOD[:3], long, hopeless, policies=Policies(too_long="drop"))
    assert report.findings["too_long"].actions == {"drop": 2}
    with pytest.raises(InputError, match=r"over the limit of 64[\s\S]*data.policies.too_long=drop"):
        prepare_chats(*GOOD[:3], long, policies=Policies(too_long="fail"))


@pytest.mark.parametrize(
    ("train_on", "trained"),
    [("answers", [False, True, False, True]), ("last_answer", [False, False, False, True]), ("everything", [True] * 4)],
)
def test_what_counts_in_the_loss(prepare_chats, tiny_template, train_on, trained):
    report, rows, _ = prepare_chats(*GOOD[:5], chat("a", "b", "c", "d"), train_on=train_on)
    (row,) = [r for side in rows.values() for r in side if len(r["messages"]) == 4]
    assert [m["trained"] for m in row["messages"]] == trained
    encoded = tiny_template.encode_chat([Message(**m) for m in row["messages"]])
    assert sum(encoded.trained[1:]) == row["num_trained_tokens"]
    assert all(encoded.trained) is (train_on == "everything")
    assert report.train_on == train_on


def test_a_turn_that_says_so_is_not_trained_in_any_mode(prepare_chats):
    flagged = {"messages": [*chat("a", "b", train=False)["messages"], *chat("c", "d")["messages"]]}
    for train_on in ("answers", "everything"):
        _, rows, _ = prepare_chats(*GOOD[:5], flagged, train_on=train_on)
        (row,) = [r for side in rows.values() for r in side if len(r["messages"]) == 4]
        assert [m["trained"] for m in row["messages"]][1::2] == [False, True]


def test_held_out_chats_do_not_resemble_trained_ones(prepare_chats):
    long = " ".join(f"word{n}" for n in range(40))
    near = [chat("tell me a long story", f"{long} and the end is number {n}") for n in range(30)]
    report, _, _ = prepare_chats(*GOOD, *near, max_tokens=512, policies=Policies(leakage="warn"))
    assert report.findings["leakage"].count >= 1
    for policy, kept in (("fix", 70), ("drop", 70 - report.findings["leakage"].count)):
        mended, rows, _ = prepare_chats(*GOOD, *near, max_tokens=512, policies=Policies(leakage=policy))
        assert mended.chats.kept == kept
        assert not any("long story" in text[0] for text in texts({"eval": rows["eval"]}))


def test_nothing_to_hold_out_is_an_error_that_says_why(prepare_chats):
    long = " ".join(f"word{n}" for n in range(40))
    with pytest.raises(InputError, match="leakage=warn"):
        prepare_chats(*[chat("a story", f"{long} {n}") for n in range(10)], max_tokens=512)


def test_too_few_chats_is_an_error(prepare_chats):
    with pytest.raises(InputError, match="at least two"):
        prepare_chats(GOOD[0])


def test_a_bound_on_chats_is_reported(prepare_chats):
    report, _, _ = prepare_chats(*GOOD, max_chats=5)
    assert (report.chats.kept, report.chats.not_read_after) == (5, 5)


def test_held_out_answers_that_are_trained_on_are_told(prepare_chats):
    chats = [chat(f"question {n} of {n * n} please", "always the very same") for n in range(40)]
    report, _, _ = prepare_chats(*chats)
    assert report.held_out_answers_known == 1.0
    assert report.findings["known_answers"].count == report.chats.eval
    several = [chat(f"question {n} of {n * n} please", f"the answer number {n % 8} of eight") for n in range(80)]
    report, _, _ = prepare_chats(*several, split_by="answers", near_duplicate_threshold=0.98)
    assert report.held_out_answers_known == 0.0
    assert report.chats.eval >= 10
    report, _, _ = prepare_chats(*GOOD)
    assert report.held_out_answers_known == 0.0
    assert "known_answers" not in report.findings


def preference(number, **changes):
    return {"prompt": f"what of {number}?", "chosen": f"{number} is fine", "rejected": f"go away, {number}"} | changes


def test_preferences_keep_their_worse_answer(prepare_chats, tiny_template):
    report, rows, folder = prepare_chats(*(preference(n) for n in range(8)))
    assert report.preferences
    assert report.chats.kept == 8
    row = rows["train"][0]
    *before, last = [Message(**message) for message in row["messages"]]
    assert row["rejected"].startswith("go away")
    chats = [tiny_template.encode_chat([*before, Message("assistant", t)]) for t in (last.content, row["rejected"])]
    assert row["num_tokens"] == sum(len(chat.input_ids) for chat in chats)
    (tokenized, *_) = load_tokenized(folder / "train.parquet", tiny_template, folder / "cache", pairs=True)
    assert [tokenized["input_ids"], tokenized["rejected_input_ids"]] == [chat.input_ids for chat in chats]
    assert [tokenized["trained"], tokenized["rejected_trained"]] == [chat.trained for chat in chats]
    assert (tokenized["length"], tokenized["num_trained"]) == (row["num_tokens"], 1)


def test_what_is_wrong_with_one_answer_takes_both_along(prepare_chats):
    good = [preference(n) for n in range(4)]
    report, _, _ = prepare_chats(
        *good, preference(5, rejected="word " * 80), preference(6, rejected=" "), preference(7, rejected="7 is fine"),
        policies=Policies(empty_turn="drop", too_long="fix"),
    )  # fmt: skip
    assert report.chats.kept == 4
    assert {kind: found.count for kind, found in report.findings.items() if kind != "near_duplicate"} == {
        "too_long": 1, "empty_turn": 1, "untrainable": 1,
    }  # fmt: skip


def test_chats_have_no_column_for_what_they_do_not_have(prepare_chats):
    report, rows, _ = prepare_chats(*GOOD)
    assert not report.preferences
    assert "rejected" not in rows["train"][0]
