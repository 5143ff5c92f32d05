"""Every kind of finding, planted once, is found to its line, and every policy does what it says."""

import json

import pytest

from datasets_of_sources import prepare_sources
from llama_platform.data.checks.doctor import CheckedChat, examine
from llama_platform.data.checks.policies import Policies, QualityFilters
from llama_platform.data.config import DataConfig
from llama_platform.errors import InputError
from llama_platform.models.prompt import Message


def chat(*texts, first="user"):
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]}


LONG = "The lamp stands on the table beside the window and gives a warm light in the evening when the sun is gone"
# The line of each record is its place in this list; the text is what must be found there.
CORPUS = [
    (chat("What is a lamp?", LONG), None),
    ("{broken", "malformed"),
    ({"messages": "none"}, "malformed"),
    (chat("hello", "hi there", first="assistant"), "role_order"),
    (chat("an empty answer follows", "  "), "empty_turn"),
    (chat("one", "two", "nobody answers this"), "unanswered"),
    ({"messages": [{"role": "user", "content": "no"}, {"role": "assistant", "content": "loss", "train": False}]}, "untrainable"),
    (chat("short", "answer", "then a long one", " ".join(f"w{n}" for n in range(90))), "too_long"),
    (chat("damaged", "caf\ufffd"), "encoding"),
    (chat("half", "\ud83d"), "encoding"),
    (chat("wrongly decoded", "donâ€™t do it, itâ€™s bad"), "mojibake"),
    (chat("bell", "ding\x07 dong"), "control_characters"),
    (chat("write to me", "I am bob@example.com"), "email"),
    (chat("call me", "dial +1 415-555-2671 now"), "phone"),
    (chat("the key", "it is AKIAIOSFODNN7EXAMPLE"), "secret"),
    (chat("say it", "again and again and again and again and again and again"), "quality"),
    (chat("What is a lamp?", LONG), "duplicate"),
    (chat("What is a lamp?", LONG + " down"), "near_duplicate"),
    *[(chat(f"question {n} about thing {n}", f"answer {n * 7} is number {n * n}"), None) for n in range(30)],
]  # fmt: skip


@pytest.fixture
def planted(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(record if isinstance(record, str) else json.dumps(record) for record, _ in CORPUS))
    return path


def configure(path, policies=None, **settings):
    quality = QualityFilters(max_repetition=0.4)
    return DataConfig(
        sources=(str(path),), max_tokens=64, quality=quality, policies=Policies(**(policies or {})), **settings
    )


def findings(folder):
    return [json.loads(line) for line in (folder / "findings.jsonl").read_text().splitlines()]


LENIENT = {"malformed": "drop", "role_order": "drop", "empty_turn": "drop", "encoding": "drop"}


def test_each_planted_fault_is_found_to_the_line_and_nothing_else(planted, tiny_template, tmp_path):
    prepare_sources(configure(planted, LENIENT), tiny_template, tmp_path / "out")
    found = {(int(f["where"].rpartition(":")[2]), f["kind"]) for f in findings(tmp_path / "out")}
    expected = {(line, kind) for line, (_, kind) in enumerate(CORPUS, 1) if kind}
    assert found - {(line, kind) for line, kind in found if kind == "leakage"} == expected


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("unanswered", ["one", "two"]),
        ("encoding", ["damaged", "caf"]),
        ("mojibake", ["wrongly decoded", "don’t do it, it’s bad"]),
        ("control_characters", ["bell", "ding dong"]),
        ("email", ["write to me", "I am [email]"]),
        ("phone", ["call me", "dial [phone] now"]),
        ("secret", ["the key", "it is [secret]"]),
    ],
)
def test_fixing_repairs_the_text(planted, tiny_template, tmp_path, kind, texts):
    import pyarrow.parquet as pq

    prepare_sources(configure(planted, LENIENT | {kind: "fix"}), tiny_template, tmp_path / "out")
    rows = [r for n in ("train", "eval") for r in pq.read_table(tmp_path / f"out/{n}.parquet").to_pylist()]
    kept = [[m["content"] for m in row["messages"]] for row in rows]
    fixed = [f for f in findings(tmp_path / "out") if f["kind"] == kind]
    assert fixed[0]["action"] == "fix"
    assert texts in kept


def test_turns_of_one_role_are_joined_and_answers_before_the_first_question_go(tmp_path, tiny_template):
    import pyarrow.parquet as pq

    roles = ["system", "assistant", "user", "user", "assistant"]
    texts = ["be kind", "hello", "one", "two", "three"]
    mixed = {"messages": [{"role": r, "content": c} for r, c in zip(roles, texts, strict=True)]}
    hopeless = {"messages": [{"role": "system", "content": "a"}, {"role": "assistant", "content": "b"}]}
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(json.dumps(c) for c in [mixed, hopeless, *(chat(f"q {n}", f"a {n}") for n in range(9))]))
    prepare_sources(configure(path, {"role_order": "fix"}), tiny_template, tmp_path / "out")
    rows = [r for n in ("train", "eval") for r in pq.read_table(tmp_path / f"out/{n}.parquet").to_pylist()]
    kept = [[m["content"] for m in row["messages"]] for row in rows]
    assert ["be kind", "one\n\ntwo", "three"] in kept
    assert len(kept) == 10
    assert [f["action"] for f in findings(tmp_path / "out") if f["where"].endswith(":2")] == ["fix", "drop"]


def test_dropping_leaves_the_chat_out(planted, tiny_template, tmp_path):
    report = prepare_sources(
        configure(planted, LENIENT | {"email": "drop", "near_duplicate": "drop"}), tiny_template, tmp_path / "out"
    )
    kept = (tmp_path / "out/train.parquet").read_bytes() + (tmp_path / "out/eval.parquet").read_bytes()
    assert b"bob@example.com" not in kept
    assert report.findings["near_duplicate"].actions == {"drop": 1}


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"min_turns": 3}, "2 turns, under min_turns 3"),
        ({"max_turns": 2}, "4 turns, over max_turns 2"),
        ({"min_answer_words": 4}, "answer 1: 1 words, under min_answer_words 4"),
        ({"max_answer_words": 3}, "over max_answer_words 3"),
        ({"max_symbols": 0.2}, "share of symbols"),
        ({"refused_patterns": ["(?i)as an ai"]}, "of refused_patterns"),
    ],
)
def test_quality_bounds(tmp_path, tiny_template, bounds, words):
    chats = [
        chat("a", "yes", "b", "no"),
        chat("c", "five words stand in here"),
        chat("d", "@@@@ #### !!!! ok"),
        chat("e", "As an AI I say four"),
        chat("f", "four words fill this"),
    ]
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(json.dumps(c) for c in chats * 1))
    config = DataConfig(sources=(str(path),), quality=QualityFilters(**bounds), policies=Policies(quality="warn"))
    prepare_sources(config, tiny_template, tmp_path / "out")
    assert any(words in f["problem"] for f in findings(tmp_path / "out"))


def test_fixing_the_order_of_turns_joins_system_turns_wherever_they_stand():
    turns = [("system", "a"), ("system", "b"), ("user", "hi"), ("system", "c"), ("assistant", "hello")]
    chat = CheckedChat([Message(role, text) for role, text in turns], "x:1")
    examine(chat, Policies(role_order="fix"), QualityFilters(), "US")
    assert [(m.role, m.content) for m in chat.messages] == [
        ("system", "a\n\nb\n\nc"),
        ("user", "hi"),
        ("assistant", "hello"),
    ]


def test_the_default_policies_stop_the_job_and_name_every_place(planted, tiny_template, tmp_path):
    with pytest.raises(InputError) as caught:
        prepare_sources(configure(planted), tiny_template, tmp_path / "out")
    for line in (2, 3, 4, 5, 9, 10):
        assert f"corpus.jsonl:{line}: " in str(caught.value)
    assert "--set data.policies.malformed=drop" in str(caught.value)
    assert (tmp_path / "out/report.html").exists()


def test_reports_do_not_repeat_personal_data(planted, tiny_template, tmp_path):
    prepare_sources(configure(planted, LENIENT), tiny_template, tmp_path / "out")
    text = (tmp_path / "out/findings.jsonl").read_text() + (tmp_path / "out/report.json").read_text()
    assert "bob@example" not in text
    assert "AKIA" not in text
