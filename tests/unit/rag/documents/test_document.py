from datetime import date, datetime

import pytest

from llama_platform.errors import InputError
from rag.documents.document import check_document_id, clean_text, make_facts, parse_date


@pytest.mark.parametrize("name", ["a.md", "guides/deep/b c.txt", "faq.jsonl#12", "ünï.md"])
def test_paths_may_name_documents(name):
    assert check_document_id(name) == name


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a\\b", "a\nb", "a\x00", "x" * 600, "./a"]
)
def test_what_could_leave_the_store_may_not(name):
    with pytest.raises(InputError, match="cannot name a document"):
        check_document_id(name)


def test_invisible_characters_become_spaces_one_for_one():
    text = "a\u200bb\u202ec\x07d\ud800e\n\tf"
    assert clean_text(text) == "a b c d e\n\tf"
    assert len(clean_text(text)) == len(text)


def test_facts_come_from_whatever_a_format_holds():
    facts = make_facts(" A \n title ", "x, y;x", datetime(2026, 3, 1, 12))
    assert (facts.title, facts.tags, facts.date) == ("A title", ("x", "y"), "2026-03-01")
    assert make_facts(12, {"a": 1}, "soon") == make_facts()
    assert make_facts(tags=["a", 3, None]).tags == ("a", "3")


@pytest.mark.parametrize(
    ("value", "day"),
    [(date(2026, 1, 2), "2026-01-02"), ("2026-01-02T10:00:00Z", "2026-01-02"), ("2026-13-01", None), ("1/2/26", None)],
)
def test_dates(value, day):
    assert parse_date(value) == day
