import itertools

from rag.documents.blocks import TextBuilder, markdown_blocks, plain_blocks, rst_blocks


def shown(text, blocks):
    return [(block.kind, text[block.start : block.end]) for block in blocks]


def test_markdown_has_headings_tables_and_code_with_their_places():
    text = "# A *b*\n\npara\ngraph\n\n| a |\n| - |\n| 1 |\n\n```\ncode\n```\n\n    indented\n\n***\n\n[x]: http://y\n"
    blocks = markdown_blocks(text)
    assert shown(text, blocks) == [
        ("heading", "# A *b*"), ("text", "para\ngraph"), ("table", "| a |\n| - |\n| 1 |"), ("code", "```\ncode\n```"),
        ("code", "indented"), ("text", "[x]: http://y"),
    ]  # fmt: skip
    assert (blocks[0].level, blocks[0].heading) == (1, "A *b*")


def test_plain_text_has_paragraphs_and_pages():
    text = "one\n\n# two\n-----\n\nthree"
    assert shown(text, plain_blocks(text)) == [("text", "one"), ("text", "# two\n-----"), ("text", "three")]
    assert [block.page for block in plain_blocks(text, (0, text.index("three")))] == [1, 1, 2]


def test_a_builder_knows_where_everything_stands():
    builder = TextBuilder()
    for text, kind in (
        ("Title\nof two lines", "heading"),
        (" \n", "text"),
        ("  code\n", "code"),
        ("so\u00adft ", "text"),
    ):
        builder.add(text, kind, level=2 if kind == "heading" else 0)
    assert builder.text == "Title\nof two lines\n\n  code\n\nsoft"
    assert shown(builder.text, builder.blocks) == [
        ("heading", "Title\nof two lines"),
        ("code", "code"),
        ("text", "soft"),
    ]
    assert builder.blocks[0].heading == "Title of two lines"


def test_headings_of_restructuredtext_are_found_and_nothing_gets_lost():
    text = """=====
Title
=====

Some words,
two lines.

Part one
--------

.. note:: stays

A part of it
~~~~~~~~~~~~

- one
- two

Part two
--------
Directly below.

====  =====
a     b
====  =====
1     2
====  =====

end
---
"""
    found = rst_blocks(text)
    assert [(b.level, b.heading) for b in found if b.kind == "heading"] == [
        (1, "Title"), (2, "Part one"), (3, "A part of it"), (2, "Part two"), (2, "end"),
    ]  # fmt: skip
    shown = "".join(text[b.start : b.end] for b in found)
    assert "".join(shown.split()) == "".join(text.split())
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    assert rst_blocks("") == []
    assert [b.kind for b in rst_blocks("no heading\n--\n")] == ["text"]
