import pytest

from pdf_files import drawn
from rag.documents.pdf_layout import running_heads, without_numbers, without_running

LEFT = [f"Left line {n} has enough words to be one of prose" for n in range(14)]
KINDS = ["Green", "Black", "White", "Yellow", "Smoked"]
RIGHT = [f"Right line {n} has enough words to be one of prose" for n in range(14)]


def columns(page, left=LEFT, right=RIGHT):
    page.setFont("Helvetica", 9)
    for number, (one, other) in enumerate(zip(left, right, strict=True)):
        page.drawString(50, 700 - 14 * number, one)
        page.drawString(310, 700 - 14 * number, other)


def test_two_columns_are_read_one_after_the_other(read):
    def draw(page):
        columns(page)
        page.setFont("Helvetica", 14)
        page.drawString(120, 760, "A title that reaches over both of the columns")
        page.showPage()

    text = read("paper.pdf", drawn(draw)).text
    places = [text.index(line) for line in ("A title that", *LEFT, *RIGHT)]
    assert places == sorted(places)


def test_what_reaches_over_both_columns_parts_them(read):
    def draw(page):
        page.setFont("Helvetica", 9)
        for top, name in ((740, "upper"), (500, "lower")):
            for number in range(10):
                page.drawString(50, top - 14 * number, f"{name} left {number} with enough words to be prose")
                page.drawString(310, top - 14 * number, f"{name} right {number} with enough words to be prose")
        page.drawString(
            60, 560, "A figure's caption reaches over both columns, from the left margin to the right one of the page."
        )
        page.showPage()

    text = read("paper.pdf", drawn(draw)).text
    parts = [
        "upper left 0",
        "upper left 9",
        "upper right 0",
        "upper right 9",
        "A figure's",
        "lower left 0",
        "lower right 9",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_rows_of_cells_stay_rows(read):
    def draw(page):
        for number in range(20):
            page.drawString(72, 700 - 14 * number, f"A{number:03}")
            page.drawString(330, 700 - 14 * number, f"{number}.50")
        page.showPage()

    lines = read("table.pdf", drawn(draw)).text.split("\n")
    assert "A007 7.50" in lines


@pytest.mark.parametrize("number", [lambda n: str(n), lambda n: ["i", "ii", "iii", "iv", "v"][n - 1]])
def test_running_heads_and_page_numbers_are_left_out_and_named(read, number):
    def draw(page):
        for n in range(1, 6):
            page.drawString(72, 780, "Annual report" if n % 2 else "Some company")
            page.drawString(72, 500, f"{KINDS[n - 1]} tea is made with water of eighty degrees.")
            page.drawString(300, 40, f"Page {number(n)} of 5")
            page.showPage()

    found = read("report.pdf", drawn(draw))
    assert "Annual report" not in found.text
    assert "of 5" not in found.text
    assert found.text.count("eighty degrees") == 5
    (note,) = found.notes
    assert note.startswith("left out at the top or bottom of pages, # for numbers: 'annual report', 'page # of #'")


def test_pages_that_have_nothing_else_stay_and_few_pages_have_no_running_heads():
    assert running_heads([["a", "text"], ["a", "other"]]) == set()
    pages = [["head", f"text number {n} with words", "foot"] for n in ("one", "two", "three")]
    assert running_heads(pages) == {"head", "foot"}
    assert without_running(pages[0], {"head", "foot"}) == ["text number one with words"]
    assert without_running(["head"], {"head"}) == ["head"]
    assert without_numbers("Page  xii of 40") == "page # of #"


def test_rows_of_numbers_are_no_running_heads():
    pages = [
        [f"2024-01-0{n} {n}.5 3.{n}", f"2024-02-0{n} {n}.1 9.{n}", "text", f"{n} {n}", f"- {n} -"] for n in range(1, 7)
    ]
    assert running_heads(pages) == {"- # -"}
