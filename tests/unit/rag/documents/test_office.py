import io
from datetime import datetime

import openpyxl
import pptx
import pytest
from pptx.util import Inches

from llama_platform.errors import InputError


def saved(document):
    target = io.BytesIO()
    document.save(target)
    return target.getvalue()


@pytest.fixture
def deck():
    made = pptx.Presentation()
    made.core_properties.title = "Tea"
    slide = made.slides.add_slide(made.slide_layouts[1])
    slide.shapes.title.text = "Green tea"
    slide.placeholders[1].text = "Eighty degrees.\nThree minutes."
    slide.notes_slide.notes_text_frame.text = "Say it slowly."
    slide = made.slides.add_slide(made.slide_layouts[5])
    slide.shapes.title.text = "Prices"
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(2), Inches(4), Inches(1)).table
    for place, text in enumerate(["Tea", "Price", "Green", "4"]):
        table.cell(*divmod(place, 2)).text = text
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 100, 100).text_frame.text = "In a group."
    return made


def test_slides_are_pages_with_notes_and_tables(read, deck):
    found = read("a.pptx", saved(deck))
    assert found.facts.title == "Tea"
    assert [(found.text[b.start : b.end], b.kind, b.page) for b in found.blocks] == [
        ("Green tea", "heading", 1),
        ("Eighty degrees.\nThree minutes.", "text", 1),
        ("Say it slowly.", "text", 1),
        ("Prices", "heading", 2),
        ("| Tea | Price |\n| Green | 4 |", "table", 2),
        ("In a group.", "text", 2),
    ]


def test_sheets_are_tables_under_their_names(read):
    book = openpyxl.Workbook()
    book.active.title = "Prices"
    for row in (["Tea", "Price", None], ["Green", 4.5, datetime(2026, 1, 2)], [None, None, None], ["Black", 3, True]):
        book.active.append(row)
    book.create_sheet("Empty")
    found = read("a.xlsx", saved(book))
    assert [(found.text[b.start : b.end], b.kind) for b in found.blocks] == [
        ("Prices", "heading"),
        ("| Tea | Price |  |\n| Green | 4.5 | 2026-01-02 00:00:00 |\n| Black | 3 | True |", "table"),
        ("Empty", "heading"),
    ]


@pytest.mark.parametrize("name", ["a.pptx", "a.xlsx"])
def test_what_is_no_such_file_says_so(read, deck, name):
    with pytest.raises(InputError, match="not a readable"):
        read(name, "no zip")
    with pytest.raises(InputError, match="not a readable"):
        read("a.xlsx", saved(deck))
