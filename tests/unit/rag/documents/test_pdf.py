import pytest

from pdf_files import drawn, pdf


def test_a_pdf_has_pages(read):
    found = read("paper.pdf", pdf(["First page.", "Second page."], Title="Paper", Keywords="x,y"))
    assert (found.facts.title, found.facts.tags) == ("Paper", ("x", "y"))
    assert [(found.text[b.start : b.end], b.page) for b in found.blocks] == [("First page.", 1), ("Second page.", 2)]


def test_cells_of_a_row_are_words_of_one_line(read):
    def draw(page):
        for number, row in enumerate([("A343", "19", "1115.26", "6"), ("A718", "1", "1282.84", "2")]):
            for column, cell in enumerate(row):
                page.drawString(72 + 110 * column, 700 - 20 * number, cell)
        page.showPage()

    lines = read("table.pdf", drawn(draw)).text.split("\n")
    assert [line for line in lines if line] == ["A343 19 1115.26 6", "A718 1 1282.84 2"]


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_turned_pages_are_read_whole(read, turn):
    def draw(page):
        page.setPageRotation(turn)
        for number in range(30):
            page.drawString(40, 800 - 26 * number, f"Line {number} of a page that is turned by so many degrees")
        page.showPage()

    found = read("turned.pdf", drawn(draw))
    assert all(f"Line {number} of a page" in found.text for number in range(30))


def test_words_parted_at_line_ends_are_whole(read):
    def draw(page):
        for number, line in enumerate(["The department is respon-", "sible for serial AB-12-", "34."]):
            page.drawString(72, 700 - 14 * number, line)
        page.showPage()

    assert "responsible for serial AB-12-\n34." in read("a.pdf", drawn(draw)).text


def test_values_of_forms_are_read(read):
    def draw(page):
        page.drawString(72, 700, "Surname:")
        page.acroForm.textfield(name="surname", value="Featherstonehaugh", x=150, y=690)
        page.showPage()

    assert "surname: Featherstonehaugh" in read("form.pdf", drawn(draw)).text


def test_pages_without_text_are_noted(read):
    def draw(page):
        page.drawString(72, 700, "Cover page only.")
        page.showPage()
        page.rect(10, 10, 100, 100)
        page.showPage()

    assert read("a.pdf", drawn(draw)).notes == ("1 of 2 pages have no text (2): pictures, or scanned",)
