import io
import zipfile

import docx
import pytest

from llama_platform.errors import InputError


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


def test_a_docx_has_headings_and_tables(read):
    content = word(
        ("Heading 1", "Tea"),
        ("Normal", "Water of 80 degrees."),
        ("List Bullet", "leaf"),
        table=[["a", "b"], ["1", "2"]],
    )
    found = read("guide.docx", content)
    assert found.text == "Tea\n\nWater of 80 degrees.\n\n- leaf\n\n| a | b |\n| 1 | 2 |"
    assert found.blocks[0].heading == "Tea"
    assert (found.facts.title, found.facts.tags) == ("The guide", ("tea", "water"))


def test_a_zip_bomb_is_refused_by_what_it_declares(read):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"0" * 50_000_000)
    assert len(buffer.getvalue()) < 2_000_000
    with pytest.raises(InputError, match="unpacks to 50000000 bytes"):
        read("bomb.docx", buffer.getvalue())


def edited(content, change):
    """Return a Word file with a changed document part."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(result, "w") as target:
        for info in source.infolist():
            part = source.read(info)
            target.writestr(
                info.filename, change(part.decode()).encode() if info.filename == "word/document.xml" else part
            )
    return result.getvalue()


@pytest.mark.parametrize(
    ("xml", "shown"),
    [
        ('<w:ins w:id="1" w:author="a"><w:r><w:t>new</w:t></w:r></w:ins>', "new"),
        ('<w:del w:id="1" w:author="a"><w:r><w:delText>old</w:delText></w:r></w:del>', ""),
        ('<w:fldSimple w:instr="REF x"><w:r><w:t>field</w:t></w:r></w:fldSimple>', "field"),
        ("<w:sdt><w:sdtContent><w:r><w:t>control</w:t></w:r></w:sdtContent></w:sdt>", "control"),
        ('<w:smartTag w:element="x"><w:r><w:t>tag</w:t></w:r></w:smartTag>', "tag"),
        ("<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>", ""),
        ("<w:r><w:t>soft\u00adhyphen</w:t></w:r>", "softhyphen"),
    ],
)
def test_word_shows_what_is_read(read, xml, shown):
    content = edited(
        word(("Normal", "MARK")),
        lambda part: part.replace("<w:r><w:t>MARK</w:t></w:r>", f"<w:r><w:t>[</w:t></w:r>{xml}<w:r><w:t>]</w:t></w:r>"),
    )
    assert read("a.docx", content).text == f"[{shown}]"


def test_texts_of_word_are_not_markdown(read):
    found = read("a.docx", word(("Normal", "[Phone]: 555-1234"), ("Normal", "# of employees: 42")))
    assert found.text == "[Phone]: 555-1234\n\n# of employees: 42"
    assert [block.kind for block in found.blocks] == ["text", "text"]


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
