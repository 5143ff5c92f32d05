import json

import pytest

from llama_platform.errors import InputError
from rag.documents.document import Skipped
from rag.documents.formats import ReadingConfig
from rag.documents.rows import read_rows


@pytest.fixture
def rows(tmp_path):
    def rows(name, content, **limits):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(read_rows(path, name, ReadingConfig(**limits)))

    return rows


def test_each_line_of_jsonl_is_a_document_with_its_facts(rows):
    lines = [
        {"text": "Green tea.", "id": "tea", "title": "Tea", "tags": ["hot"], "date": "2026-01-02"},
        {"text": "Coffee.", "other": 1},
        {"text": ""},
        {"body": "x"},
        [1],
        {"text": "x", "id": "../../etc"},
    ]
    found = rows("faq.jsonl", "\n".join(map(json.dumps, lines)) + "\n{broken\n\n")
    tea, coffee = found[:2]
    assert (tea.id, tea.facts.title, tea.facts.tags, tea.facts.date) == ("faq.jsonl#tea", "Tea", ("hot",), "2026-01-02")
    assert (coffee.id, coffee.text) == (f"faq.jsonl#{coffee.sha256[:12]}", "Coffee.")
    assert [(item.id, isinstance(item, Skipped)) for item in found[2:]] == [
        (f"faq.jsonl#row {n}", True) for n in range(3, 8)
    ]
    assert "the row has body" in found[3].reason
    assert "cannot name a document" in found[5].reason


def test_csv_and_tsv_have_a_text_column(rows):
    found = rows("a.csv", 'id,body\n1,"Tea, green\nand black"\n2,Coffee\n', text_column="body")
    assert [(d.id, d.text) for d in found] == [("a.csv#1", "Tea, green\nand black"), ("a.csv#2", "Coffee")]
    assert rows("a.tsv", "text\tdate\nTea\t2026-01-02\n")[0].facts.date == "2026-01-02"


def test_rows_of_another_width_are_named_with_their_line(rows):
    found = rows("a.csv", "id,text,date\n1,The fee is 5, not 6,2026-01-02\n2,Tea\n3,Coffee,2026-01-02\n")
    assert found[0].reason == "line 2: 4 fields, the header has 3: put a text with a ',' in quotes"
    assert found[1].reason == "line 3: no date: the header has 3 fields"
    assert found[2].text == "Coffee"


def test_a_row_that_moves_keeps_its_id(rows):
    before = {d.text: d.id for d in rows("a.csv", "text\nTea\nCoffee\n")}
    after = {d.text: d.id for d in rows("a.csv", "text\nWater\nTea\nCoffee\n")}
    assert before.items() < after.items()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "id,body\n1,x\n", "no column 'text'; there are id, body"),
        ("a.csv", "", "no column 'text'"),
        ("a.csv", 'text\n"open', "not valid CSV"),
        ("a.csv", "text\n" + "x" * 5000, "a line over the limit"),
        ("a.jsonl", b"\xff\xff", "not UTF-8"),
        ("a.jsonl", "x" * 20_000, "20000 bytes, over the limit"),
    ],
)
def test_files_that_are_no_tables_say_why(rows, name, content, reason):
    with pytest.raises(InputError, match=reason):
        rows(name, content, max_bytes=1000, max_table_bytes=10_000)


def test_a_line_without_end_is_skipped_and_the_rest_read(rows):
    found = rows("a.jsonl", '{"text": "' + "x" * 5000 + '"}\n{"text": "Tea."}\n', max_bytes=1000)
    assert "a line over the limit" in found[0].reason
    assert found[1].text == "Tea."


def test_questions_with_answers_are_documents_under_their_question(rows):
    found = rows("faq.csv", "question,answer\nHow hot?,Eighty degrees.\nHow long?,\n")
    assert (found[0].text, found[0].facts.title) == ("How hot?\n\nEighty degrees.", "How hot?")
    assert "no text in 'text'; the row has question, answer" in found[1].reason


def test_a_list_of_json_is_read_as_its_lines_would_be(rows):
    objects = [{"text": "Green tea.", "id": "tea"}, {"question": "How hot?", "answer": "Eighty."}, {"body": "x"}, 3]
    found = rows("faq.json", json.dumps(objects, indent=1))
    assert [one.text for one in found if not isinstance(one, Skipped)] == ["Green tea.", "How hot?\n\nEighty."]
    assert [one.reason for one in found if isinstance(one, Skipped)] == [
        "no text in 'text'; the row has body",
        "not an object",
    ]
    assert [one.text for one in rows("one.json", '{"text": "Alone."}')] == ["Alone."]
    for content, words in (
        ("[", "not valid JSON"),
        ("3", "neither a list"),
        ('[{"text": "' + "x" * 200 + '"}]', "max_bytes"),
    ):
        with pytest.raises(InputError, match=words):
            rows("faq.json", content, max_bytes=100)
