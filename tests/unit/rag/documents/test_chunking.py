import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.documents.blocks import markdown_blocks, plain_blocks
from rag.documents.chunking import Chunk, ChunkingConfig, coverage, split_document
from rag.documents.document import Document, Facts
from rag.documents.sandbox import make_cutter

MARKDOWN = """# Guide

Intro text.

## Install

Run this:

```sh
# not a heading
helm install x
```

### Options

| a | b |
| - | - |
| 1 | 2 |

## Remove

Gone.
"""


def words(text):
    return [word.start() for word in re.finditer(r"\S+", text)]


def document(text, markdown=True, facts=None):
    blocks = markdown_blocks(text) if markdown else plain_blocks(text)
    return Document("docs/guide.md", text, "0" * 64, facts or Facts(), tuple(blocks))


def test_chunks_follow_headings_and_keep_code_and_tables_whole():
    chunks = split_document(document(MARKDOWN), 100, 0, words)
    assert [(c.title, c.heading) for c in chunks] == [
        ("Guide", ""),
        ("Guide", "Install"),
        ("Guide", "Install > Options"),
        ("Guide", "Remove"),
    ]
    assert "# not a heading" in chunks[1].text
    assert chunks[2].text.startswith("| a | b |")


def test_title_is_the_file_name_without_headings():
    (chunk,) = split_document(document("Just text.", markdown=False), 100, 0, words)
    assert (chunk.title, chunk.heading, chunk.embedded_text()) == ("guide", "", "docs guide: guide\nJust text.")


def test_chunks_carry_what_their_document_says_of_itself():
    facts = Facts("The title", ("x",), "2026-01-02")
    (chunk,) = split_document(document("# Head\n\nText.", facts=facts), 100, 0, words)
    assert (chunk.title, chunk.heading, chunk.tags, chunk.date) == ("The title", "Head", ("x",), "2026-01-02")


def test_no_chunk_crosses_a_page():
    text = "First page.\n\nMore.\n\nSecond page.\n\n"
    blocks = plain_blocks(text, (0, text.index("Second")))
    found = Document("a.pdf", text, "0" * 64, blocks=tuple(blocks))
    chunks = split_document(found, 100, 0, words)
    assert [(chunk.page, chunk.text) for chunk in chunks] == [(1, "First page.\n\nMore."), (2, "Second page.")]
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)


def test_a_long_paragraph_is_cut_between_sentences_with_overlap():
    text = " ".join(f"Sentence number {n} is here." for n in range(20))
    chunks = split_document(document(text), 20, 6, words)
    assert len(chunks) > 4
    for before, after in itertools.pairwise(chunks):
        assert before.text.endswith(".")
        assert after.text.startswith("Sentence")
        assert after.start < before.end


@given(
    st.text(st.sampled_from("ab .\n#`|-é漢"), max_size=400),
    st.integers(1, 12),
    st.integers(0, 5),
    st.booleans(),
)
def test_spans_are_true_and_no_word_is_lost(text, limit, overlap, markdown):
    chunks = split_document(document(text, markdown), limit, overlap, words)
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text
        assert 0 < len(words(chunk.text)) <= limit
    assert coverage(document(text, markdown), chunks) == 1.0
    if not markdown:
        covered = set()
        for chunk in chunks:
            covered |= set(range(chunk.start, chunk.end))
        assert all(text[i].isspace() for i in set(range(len(text))) - covered)


def test_long_text_without_blank_lines_is_counted_in_linear_time():
    counted = 0

    def counting(text):
        nonlocal counted
        counted += len(text)
        return words(text)

    def cost(size):
        nonlocal counted
        counted = 0
        split_document(document("word number " * size, markdown=False), 50, 10, counting)
        return counted

    assert cost(8000) < 6 * cost(2000)


@pytest.mark.parametrize(
    "text",
    [
        "# Guide\n\n## Nothing below\n\n## Something\n\nText.",
        "Amount due: 4711 euros\n-----\n",
        "# " + "many words " * 60 + "\n\nText.",
        "Text.\n\n[Phone]: 555-1234\n\nMore.",
        "# A\n\n### B\n\n## C\n",
    ],
)
def test_headings_are_text_and_no_line_vanishes(text):
    chunks = split_document(document(text), 40, 0, words)
    shown = " ".join(f"{chunk.title} {chunk.heading} {chunk.text}" for chunk in chunks)
    for word in re.findall(r"\w+", text):
        assert word in shown
    assert coverage(document(text), chunks) == 1.0


def test_a_table_is_cut_between_rows_and_each_piece_has_its_header():
    rows = [f"| Article {n}. It is fine. | {n} |" for n in range(30)]
    text = "# Prices\n\n" + "\n".join(["| Article | Price |", "| --- | --- |", *rows])
    chunks = split_document(document(text), 40, 5, words)
    assert len(chunks) > 3
    assert [chunk.heading for chunk in chunks[1:]] == ["Article | Price"] * (len(chunks) - 1)
    for chunk in chunks:
        assert all(line in (*rows, "| Article | Price |", "| --- | --- |") for line in chunk.text.splitlines())


def test_code_is_cut_between_lines():
    lines = [f'print("one. two. three {n}")' for n in range(30)]
    text = "```py\n" + "\n".join(lines) + "\n```"
    for chunk in split_document(document(text), 20, 4, words):
        assert all(line in (*lines, "```py", "```") for line in chunk.text.splitlines())


def test_a_long_path_does_not_outweigh_the_text():
    name = "/".join(["0a1b2c3d-1111-2222-3333-444455556666"] * 5) + "/deploy/helm.md"
    chunk = Chunk(name, "T" * 200, "H" * 300 + " > " + "I" * 300, "text", 0, 4)
    place, text = chunk.embedded_text().split("\n")
    assert text == "text"
    assert len(place) < 340
    assert "deploy helm" in place
    assert "0a1b2c3d" not in place


def test_text_without_spaces_is_counted_by_characters(tokenizer):
    text = "การเดินทางไปกรุงเทพ" * 100
    cut = make_cutter(ChunkingConfig(chunk_tokens=64, overlap_tokens=0), tokenizer)
    found = cut(document(text, markdown=False))
    assert {len(chunk.text) for chunk in found.chunks[:-1]} == {64}
    assert found.coverage == 1.0
    (note,) = found.document.notes
    assert "embedding.model" in note
