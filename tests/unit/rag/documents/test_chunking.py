import itertools

from hypothesis import given
from hypothesis import strategies as st

from rag.documents.chunking import split_document
from rag.documents.document import Document, Facts

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
    return len(text.split())


def document(text, markdown=True):
    return Document("docs/guide.md", text, markdown, "0" * 64)


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
    (chunk,) = split_document(Document("a.md", "# Head\n\nText.", True, "0" * 64, facts), 100, 0, words)
    assert (chunk.title, chunk.heading, chunk.tags, chunk.date) == ("The title", "Head", ("x",), "2026-01-02")


def test_no_chunk_crosses_a_page():
    text = "First page.\n\nMore.\n\nSecond page.\n\n"
    found = Document("a.pdf", text, False, "0" * 64, page_starts=(0, text.index("Second")))
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
        assert 0 < words(chunk.text) <= limit
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
