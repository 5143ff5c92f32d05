import io
import zipfile

import pytest

from llama_platform.errors import InputError

CONTAINER = """<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""
PACKAGE = """<package xmlns="http://www.idpf.org/2007/opf" version="3.0">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>On tea</dc:title><dc:date>2026-01-02T00:00:00Z</dc:date></metadata>
<manifest><item id="b" href="text/two%20.xhtml"/><item id="a" href="text/one.xhtml"/></manifest>
<spine><itemref idref="a"/><itemref idref="b"/></spine></package>"""


def book(**changed):
    files = {
        "META-INF/container.xml": CONTAINER,
        "OEBPS/book.opf": PACKAGE,
        "OEBPS/text/one.xhtml": "<html><body><h1>One</h1><p>Green tea.</p></body></html>",
        "OEBPS/text/two .xhtml": "<html><body><h1>Two</h1><p>Black tea.</p></body></html>",
    } | changed
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def test_chapters_are_read_in_their_order(read):
    found = read("a.epub", book())
    assert (found.facts.title, found.facts.date) == ("On tea", "2026-01-02")
    assert [(found.text[b.start : b.end], b.kind) for b in found.blocks] == [
        ("One", "heading"), ("Green tea.", "text"), ("Two", "heading"), ("Black tea.", "text"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {"META-INF/container.xml": "<container/>"},
        {"OEBPS/book.opf": "no xml"},
        {"OEBPS/book.opf": PACKAGE.replace('idref="a"', 'idref="gone"')},
        {"OEBPS/book.opf": PACKAGE.replace("text/one.xhtml", "../../etc/passwd")},
    ],
)
def test_what_is_no_book_says_so(read, changed):
    with pytest.raises(InputError, match="not a readable EPUB"):
        read("a.epub", book(**changed))
