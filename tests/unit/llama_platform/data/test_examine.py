import json

import pytest

from datasets_of_sources import GOOD, chat, prepare_sources
from llama_platform.data.checks.policies import Policies
from llama_platform.data.config import DataConfig
from llama_platform.errors import InputError


def write_folder(folder, files):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else "\n".join(map(json.dumps, content)))
    return DataConfig(sources=(str(folder),), max_tokens=64)


def chats_about(what, count=6):
    return [{"input": f"{what} {n}?", "output": f"answer {n} to {what}"} for n in range(count)]


def test_a_foreign_file_in_a_folder_is_a_finding_and_not_the_end(tmp_path, tiny_template):
    config = write_folder(
        tmp_path / "chats",
        {
            "a.jsonl": chats_about("one"),
            "package.json": '{"name": "x", "version": "1"}',
            "dataset_info.json": "{",
            "empty.json": "",
            "README.md": "# Chats",
            "mixed.jsonl": [{"foreign": 1}, *chats_about("two")],
        },
    )
    config = config.model_copy(update={"policies": Policies(malformed="drop")})
    report = prepare_sources(config, tiny_template, tmp_path / "out")
    places = {kind: [place.where for place in found.places] for kind, found in report.findings.items()}
    folder = tmp_path / "chats"
    assert sorted(places["unread_file"]) == sorted(
        f"{folder}/{name}:1" for name in ("package.json", "dataset_info.json", "empty.json", "README.md")
    )
    assert places["malformed"] == [f"{folder}/mixed.jsonl:1"]
    assert report.chats.kept == 12


def test_a_file_that_is_named_and_foreign_is_malformed(tmp_path, tiny_template):
    write_folder(tmp_path / "chats", {"package.json": '{"name": "x"}'})
    config = DataConfig(sources=(str(tmp_path / "chats/package.json"),))
    with pytest.raises(InputError, match=r"package\.json:1: unknown format.*\n1 findings stop the job"):
        prepare_sources(config, tiny_template, tmp_path / "out")


def test_a_damaged_list_keeps_what_comes_before_the_damage(tmp_path, tiny_template):
    text = json.dumps(chats_about("list"), indent=0)[:-2] + ",\n{oops"
    config = write_folder(tmp_path / "chats", {"a.json": text})
    with pytest.raises(InputError, match=r"a\.json:\d+: not valid JSON"):
        prepare_sources(config, tiny_template, tmp_path / "out")
    config = config.model_copy(update={"policies": Policies(malformed="drop")})
    assert prepare_sources(config, tiny_template, tmp_path / "out2").chats.kept == 6


def test_pictures_stop_the_job_and_what_else_is_not_read_is_told(tmp_path, tiny_template):
    records = [{**chat, "annotations": [1]} for chat in chats_about("tools")]
    config = write_folder(tmp_path / "chats", {"a.jsonl": records})
    report = prepare_sources(config, tiny_template, tmp_path / "out")
    assert report.findings["unread"].count == 6
    assert report.chats.kept == 6
    config = write_folder(tmp_path / "seen", {"a.jsonl": [{**chat, "images": ["x.png"]} for chat in records]})
    with pytest.raises(InputError, match="'images' is not trained on"):
        prepare_sources(config, tiny_template, tmp_path / "out2")


def answers_of(row):
    return [(m["content"], m["trained"]) for m in row["messages"] if m["role"] == "assistant"]


def test_a_key_that_is_not_known_and_carries_text_stops_the_job(prepare_chats):
    pairs = [{"question": f"where is {n}?", "answer": f"at {n * n}"} for n in range(4)]
    pairs[0]["passage"] = "Rome."
    with pytest.raises(InputError, match=r"(?s)'passage' is not trained on.*data\.policies\.unread_keys=drop\|warn"):
        prepare_chats(*pairs)
    report, _, _ = prepare_chats(*pairs, policies=Policies(unread_keys="warn"))
    assert report.findings["unread_keys"].places[0].where.endswith(":1")
    assert report.chats.kept == 4


def test_the_last_answer_of_a_chat_that_was_cut_counts(prepare_chats):
    long = chat(*(f"{word} number {n}" for n in range(30) for word in ("question", "answer")))
    report, rows, _ = prepare_chats(long, *GOOD[:3], train_on="last_answer")
    assert report.findings["too_long"].actions == {"fix": 1}
    (cut,) = [row for side in rows.values() for row in side if row["source"].endswith(":1")]
    *others, last = answers_of(cut)
    assert (last[1], any(trained for _, trained in others)) == (True, False)
    assert "untrainable" not in report.findings


def test_a_chat_of_very_many_turns_is_tokenized_once(prepare_chats, tiny_template, monkeypatch):
    calls = []
    encode = type(tiny_template)._encode_exchange
    monkeypatch.setattr(type(tiny_template), "_encode_exchange", lambda *a, **k: (calls.append(1), encode(*a, **k))[1])
    prepare_chats(chat(*(f"turn {n}" for n in range(1000))), *GOOD[:3])
    assert len(calls) < 2 * 500


def test_of_two_answers_the_one_that_is_not_trained_is_left_out(prepare_chats):
    turns = [
        {"role": "user", "content": "which?"},
        {"role": "assistant", "content": "the bad one", "weight": 0},
        {"role": "assistant", "content": "the good one", "weight": 1},
    ]
    _, rows, _ = prepare_chats({"messages": turns}, *GOOD[:3], policies=Policies(role_order="fix"))
    (row,) = [row for side in rows.values() for row in side if row["source"].endswith(":1")]
    assert answers_of(row) == [("the good one", True)]


def test_line_ends_and_frames_in_texts_are_findings(prepare_chats):
    report, rows, _ = prepare_chats(chat("a\r\nb", "see ### Assistant: and </s>"), *GOOD[:3])
    assert {kind: found.actions for kind, found in report.findings.items()} == {
        "line_ends": {"fix": 1}, "frame": {"warn": 1},
    }  # fmt: skip
    assert "### Assistant:, </s>" in report.findings["frame"].places[0].problem
    assert any(m["content"] == "a\nb" for side in rows.values() for row in side for m in row["messages"])


def test_empty_lines_within_a_tagged_text_are_told(tmp_path, tiny_template):
    text = "### Human: a\n### Assistant: b\n\n### Human: c\n### Assistant: d\n\n\n### Human: e\n### Assistant: f"
    config = write_folder(tmp_path / "chats", {"a.txt": text})
    report = prepare_sources(config, tiny_template, tmp_path / "out")
    assert report.chats.kept == 2
    (place,) = report.findings["empty_lines"].places
    assert place.where == f"{tmp_path}/chats/a.txt:1"
    assert "data.chat_break=one_empty_line" in place.problem
    parted = config.model_copy(update={"chat_break": "one_empty_line"})
    report = prepare_sources(parted, tiny_template, tmp_path / "parted")
    assert (report.chats.kept, "empty_lines" in report.findings) == (3, False)


def test_preferences_and_other_chats_are_two_datasets(tmp_path, tiny_template):
    pairs = [{"prompt": f"what of {n}?", "chosen": f"{n} is fine", "rejected": "go away"} for n in range(4)]
    config = write_folder(tmp_path / "both", {"a.jsonl": GOOD[:3], "b.jsonl": pairs})
    with pytest.raises(InputError, match="4 of 7 chats have a chosen and a rejected answer"):
        prepare_sources(config, tiny_template, tmp_path / "out")
