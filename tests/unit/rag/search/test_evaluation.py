import json
import math

import pytest

from llama_platform.errors import InputError
from rag.search.evaluation import LabelledQuestion, evaluate, quality, read_questions
from rag.search.query import Hit


def test_measures_agree_with_their_definitions():
    found = quality([1, 3, None, 11], (1, 3, 10))
    assert found.recall == {1: 0.25, 3: 0.5, 10: 0.5}
    assert found.mrr == pytest.approx((1 + 1 / 3) / 4)
    assert found.ndcg == pytest.approx((1 + 1 / math.log2(4)) / 4)


def test_every_mode_is_asked_every_question(make_chunk):
    asked = []

    def search(question, mode):
        asked.append((question, mode))
        order = ["b.md", "a.md"] if mode == "dense" else ["a.md", "b.md"]
        return [Hit(make_chunk("x", name), 0, 0.5) for name in order]

    results = evaluate([LabelledQuestion("q", document="a.md")], search, (1, 2))
    assert {mode: found.recall[1] for mode, found in results.items()} == {"dense": 0, "lexical": 1, "hybrid": 1}
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("text", "chunk", "answers"),
    [
        ("water of eighty degrees", "Green tea needs  Water of eighty degrees.", True),
        ("Green tea needs water of eighty degrees and five minutes", "green tea needs water of eighty", True),
        ("Green tea needs water of eighty degrees and five minutes", "black coffee needs boiling water", False),
    ],
)
def test_a_text_is_found_in_the_chunk_that_holds_it_or_half_of_it(make_chunk, text, chunk, answers):
    assert LabelledQuestion("q", text=text).answered_by(Hit(make_chunk(chunk), 0, 0.5)) == answers


def test_squad_and_json_lines_are_read(tmp_path):
    squad = {"data": [{"title": "T", "paragraphs": [{"context": "Tea is hot.", "qas": [
        {"question": "How is tea?", "answers": []}, {"question": "?", "is_impossible": True}]}]}]}  # fmt: skip
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(squad))
    found = read_questions(path)
    assert found.questions == [LabelledQuestion("How is tea?", document="T#0")]
    assert [(d.id, d.text) for d in found.documents] == [("T#0", "Tea is hot.")]
    lines = tmp_path / "q.jsonl"
    lines.write_text('{"question": "a", "document": "x.md"}\n\n{"question": "b", "text": "t"}\n')
    assert [(q.document, q.text) for q in read_questions(lines).questions] == [("x.md", None), (None, "t")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no questions"),
        ("{broken", r"q.jsonl:1: not valid JSON"),
        ('{"question": "a"}', "q.jsonl:1: needs 'question', and"),
        ("[1]", "q.jsonl:1: needs"),
        ('{"data": [{"paragraphs": [{}]}]}', "form of SQuAD"),
        ('{"data": 3}', "form of SQuAD"),
    ],
)
def test_what_is_neither_is_named(tmp_path, content, words):
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        read_questions(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_questions(tmp_path / "none")
