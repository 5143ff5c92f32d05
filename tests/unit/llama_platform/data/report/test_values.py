import json

from llama_platform.data.checks.findings import FindingCounts, Place
from llama_platform.data.report.values import ChatCounts, DatasetReport, PromptIdentity, SourceCounts, TokenCounts


def report(bound: int | None) -> DatasetReport:
    side = TokenCounts(all=9, trained=4, longest=9)
    return DatasetReport(
        "chats",
        (SourceCounts("a.jsonl", "f" * 64, {"pairs": 1}),),
        ChatCounts(2, 2, 1, 1, bound),
        {"train": side, "eval": side},
        0.5,
        {"email": FindingCounts(1, {"warn": 1}, (Place("a.jsonl:1", "x", "warn"),))},
        PromptIdentity("plain", "f" * 64),
        "answers",
    )


def test_the_json_form_is_plain_values_under_the_keys_of_report_json():
    values = report(None).as_json()
    assert json.loads(json.dumps(values)) == values
    assert list(values) == [
        "name",
        "sources",
        "chats",
        "tokens",
        "held_out_answers_known",
        "findings",
        "prompt",
        "train_on",
    ]
    assert values["findings"]["email"]["places"] == [{"where": "a.jsonl:1", "problem": "x", "action": "warn"}]


def test_a_bound_on_chats_shows_only_where_it_was_reached():
    assert "not_read_after" not in report(None).as_json()["chats"]
    assert report(5).as_json()["chats"]["not_read_after"] == 5
