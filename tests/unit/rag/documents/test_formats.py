import json

import pytest

from llama_platform.errors import InputError
from pdf_files import pdf


def test_markdown_keeps_places_and_reads_front_matter(read):
    text = "---\ntitle: Tea\ntags: [green, black]\ndate: 2026-02-03\n---\n# Heading\n\nText.\n"
    found = read("tea.md", text)
    assert (found.facts.title, found.facts.tags, found.facts.date) == ("Tea", ("green", "black"), "2026-02-03")
    assert found.text.strip() == "# Heading\n\nText."
    assert found.text.index("# Heading") == text.index("# Heading")
    assert [block.heading for block in found.blocks] == ["Heading", ""]


@pytest.mark.parametrize("head", ["---\n- a\n- b\n---\n", "---\n[broken: {\n---\n", "---\nno end\n"])
def test_what_only_looks_like_front_matter_is_text(read, head):
    assert read("a.md", head + "\nText.\n").facts.title is None


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", b"\x89PNG", "suffix '.png' are not supported"),
        ("a.md", bytes(range(128, 256)) * 3 + b"\x00", "not UTF-8"),
        ("a.ipynb", "[]", "not a notebook"),
        ("a.ipynb", '{"cells": [{"cell_type": "code"}]}', "not a notebook"),
        ("a.txt", b"a\x00b", "NUL"),
        ("a.md", " \n", "no text"),
        ("a.md", "x" * 3_000_000, "over the limit"),
        ("a.pdf", "no pdf", "not a readable PDF"),
        ("a.pdf", pdf(["x"] * 6), "6 pages, over the limit of 5"),
        ("a.pdf", pdf([""]), "without text"),
        ("a.docx", "no zip", "not a readable DOCX"),
        ("a.html", "<p></p>", "no text"),
    ],
)
def test_what_cannot_be_read_says_why(read, name, content, reason):
    with pytest.raises(InputError, match=reason):
        read(name, content)


def test_front_matter_with_a_colon_in_its_title_is_read(read):
    found = read("a.md", "---\ntitle: Helm: a guide\ndate: 5 March 2024\n---\nText.\n")
    assert (found.facts.title, found.facts.date) == ("Helm: a guide", "2024-03-05")
    assert found.text.strip() == "Text."


def test_a_date_that_may_be_two_is_noted(read):
    found = read("a.md", "---\ntitle: A\ndate: 03/05/2024\n---\nText.\n")
    assert found.facts.date is None
    assert found.notes == ("its date '03/05/2024' is none, or may be two: write YYYY-MM-DD",)


def test_pictures_within_markdown_are_left_out_and_noted(read):
    found = read("a.md", f"Before ![x](data:image/png;base64,{'iVBORw0KGgo' * 200}) after.\n")
    assert found.text.strip() == "Before ![x](data:) after."
    assert found.notes == ("1 pictures within the text are left out",)


def test_text_files_are_not_markdown(read):
    found = read("a.txt", "Amount due: 4711 euros\n-----\n# of employees: 42\n")
    assert [block.kind for block in found.blocks] == ["text"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Grüner Tee wird mit achtzig Grad heißem Wasser aufgegossen, schöne Grüße aus Köln.", "cp1252"),
        ("Les élèves étudient à l'école où le maître enseigne, près de la forêt, déjà très tôt.", "cp1252"),
        ("A situação não é má: são três irmãs, às vezes vêm à praia.", "cp1252"),
        ("På svenska går åsnan över ån, och ägaren följer efter på sin häst.", "cp1252"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy, řekl jeho pán.", "cp1250"),
        ("Зелёный чай заваривают водой восьмидесяти градусов, и он не должен кипеть.", "cp1251"),
        ("Green tea is made with water of eighty degrees. 緑茶は八十度のお湯で淹れます。", "utf-16"),
    ],
)
def test_other_encodings_are_guessed_and_noted(read, text, encoding):
    found = read("a.txt", text.encode(encoding))
    assert found.text == text
    assert "not UTF-8: read as" in found.notes[0]


def test_notebooks_are_their_cells(read):
    cells = [
        {"cell_type": "markdown", "source": ["# Tea\n", "Green tea."]},
        {"cell_type": "code", "source": "print(80)", "outputs": [{"output_type": "stream", "text": "80"}]},
        {"cell_type": "raw", "source": ""},
    ]
    whole = {"cells": cells, "metadata": {"kernelspec": {"language": "python"}}, "nbformat": 4}
    found = read("a.ipynb", json.dumps(whole))
    assert found.text == "# Tea\nGreen tea.\n\n```python\nprint(80)\n```"
    assert found.blocks[0].heading == "Tea"
    assert found.notes == ("what 1 cells have printed or drawn is left out",)
