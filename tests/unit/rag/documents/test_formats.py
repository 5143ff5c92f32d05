import io
import zipfile

import docx
import pytest
from reportlab.pdfgen import canvas

from llama_platform.errors import InputError
from rag.documents.formats import ReadingConfig, read_file

LIMITS = ReadingConfig(max_bytes=2_000_000, max_pages=5)


@pytest.fixture
def read(tmp_path):
    def read(name, content, limits=LIMITS):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_file(path, name, limits)

    return read


def pdf(pages, **info):
    buffer = io.BytesIO()
    page = canvas.Canvas(buffer)
    for key, value in info.items():
        getattr(page, f"set{key}")(value)
    for text in pages:
        page.drawString(72, 720, text)
        page.showPage()
    page.save()
    return buffer.getvalue()


def word(*paragraphs, table=None):
    document = docx.Document()
    for style, text in paragraphs:
        document.add_paragraph(text, style=style)
    if table:
        cells = document.add_table(rows=0, cols=len(table[0]))
        for row in table:
            for cell, text in zip(cells.add_row().cells, row, strict=True):
                cell.text = text
    document.core_properties.title = "The guide"
    document.core_properties.keywords = "tea; water"
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def test_markdown_keeps_places_and_reads_front_matter(read):
    text = "---\ntitle: Tea\ntags: [green, black]\ndate: 2026-02-03\n---\n# Heading\n\nText.\n"
    found = read("tea.md", text)
    assert (found.facts.title, found.facts.tags, found.facts.date) == ("Tea", ("green", "black"), "2026-02-03")
    assert found.text.strip() == "# Heading\n\nText."
    assert found.text.index("# Heading") == text.index("# Heading")
    assert found.markdown


@pytest.mark.parametrize("head", ["---\n- a\n- b\n---\n", "---\n[broken: {\n---\n", "---\nno end\n"])
def test_what_only_looks_like_front_matter_is_text(read, head):
    assert read("a.md", head + "\nText.\n").facts.title is None


def test_html_becomes_headings_tables_and_code_without_what_is_not_shown(read):
    found = read(
        "page.html",
        "<html><head><title>Tea &amp; co</title><meta name=keywords content='a,b'><style>x{}</style></head><body>"
        "<nav>Menu</nav><h1>Tea</h1><p>Green <b>tea</b>.</p><script>alert(1)</script><p hidden>secret</p><!-- note -->"
        "<table><tr><th>a</th></tr><tr><td>1</td></tr></table><pre>helm  install</pre></body></html>",
    )
    assert (found.facts.title, found.facts.tags) == ("Tea & co", ("a", "b"))
    assert "# Tea" in found.text
    assert "helm  install" in found.text
    assert "| 1 |" in found.text
    for hidden in ("Menu", "alert", "secret", "note", "x{}"):
        assert hidden not in found.text


def test_a_pdf_has_pages(read):
    found = read("paper.pdf", pdf(["First page.", "Second page."], Title="Paper", Keywords="x,y"))
    assert (found.facts.title, found.facts.tags) == ("Paper", ("x", "y"))
    first, second = found.page_starts
    assert "First page." in found.text[first:second]
    assert "Second page." in found.text[second:]


def test_a_docx_has_headings_and_tables(read):
    content = word(
        ("Heading 1", "Tea"),
        ("Normal", "Water of 80 degrees."),
        ("List Bullet", "leaf"),
        table=[["a", "b"], ["1", "2"]],
    )
    found = read("guide.docx", content)
    assert found.text == "# Tea\n\nWater of 80 degrees.\n\n- leaf\n\n| a | b |\n| - | - |\n| 1 | 2 |"
    assert (found.facts.title, found.facts.tags) == ("The guide", ("tea", "water"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", b"\x89PNG", "suffix '.png' are not supported"),
        ("a.md", b"\xff\xfe\x00\x01", "not UTF-8"),
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


def test_a_zip_bomb_is_refused_by_what_it_declares(read):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"0" * 50_000_000)
    assert len(buffer.getvalue()) < LIMITS.max_bytes
    with pytest.raises(InputError, match="unpacks to 50000000 bytes"):
        read("bomb.docx", buffer.getvalue())


def test_an_entity_bomb_does_not_expand(read):
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "boom">{entities}]>'
    original = word(("Normal", "Text."))
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(original)) as source, zipfile.ZipFile(buffer, "w") as target:
        for item in source.infolist():
            content = source.read(item)
            if item.filename == "word/document.xml":
                content = bomb.encode() + content.split(b"?>", 1)[1].replace(b"Text.", b"Text&e9;.")
            target.writestr(item, content)
    try:
        found = read("bomb.docx", buffer.getvalue()).text
    except InputError as error:
        found = str(error)
    assert len(found) < 10_000
    page = f"{bomb}<html xmlns='http://www.w3.org/1999/xhtml'><body><p>Hello &e9;</p></body></html>"
    assert len(read("bomb.xhtml", page).text) < 10_000


def test_deep_html_is_refused_not_crashed_on(read):
    with pytest.raises(InputError, match=r"nested too deeply|no text"):
        read("deep.html", "<div>" * 20_000 + "x")
