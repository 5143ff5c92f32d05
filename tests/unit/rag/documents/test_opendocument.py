import io
import zipfile

import pytest

from llama_platform.errors import InputError

HEAD = """<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"
 xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"><office:body><office:text>"""
BODY = """<text:tracked-changes><text:changed-region><text:deletion><text:p>gone</text:p></text:deletion></text:changed-region></text:tracked-changes>
<text:h text:outline-level="2">Green<text:s text:c="2"/>tea</text:h>
<text:p>Eighty <text:span>degrees</text:span><text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>Celsius</text:p></text:note-body></text:note>,<text:line-break/>no more.<office:annotation><text:p>check!</text:p></office:annotation></text:p>
<text:list><text:list-item><text:p>one</text:p></text:list-item><text:list-item><text:p>two</text:p></text:list-item></text:list>
<table:table><table:table-row><table:table-cell><text:p>kind</text:p></table:table-cell><table:table-cell><text:p>water</text:p></table:table-cell></table:table-row>
<table:table-row><table:table-cell><text:p>green</text:p></table:table-cell><table:table-cell><text:p>80</text:p></table:table-cell></table:table-row></table:table>
<text:p><draw:frame><draw:image/></draw:frame></text:p><text:mystery><text:p>hidden?</text:p></text:mystery>"""
META = """<office:document-meta xmlns:office="urn:o" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:meta="urn:m"><office:meta>
<dc:title>On tea</dc:title><meta:keyword>tea</meta:keyword><dc:date>2026-01-02T10:00:00</dc:date></office:meta></office:document-meta>"""


def writer(body=BODY, **files):
    target = io.BytesIO()
    content = f"{HEAD}{body}</office:text></office:body></office:document-content>"
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in ({"content.xml": content, "meta.xml": META} | files).items():
            if text is not None:
                archive.writestr(name, text)
    return target.getvalue()


def test_what_is_shown_is_read_and_what_is_not_understood_is_named(read):
    found = read("a.odt", writer())
    assert [(found.text[b.start : b.end], b.kind, b.level) for b in found.blocks] == [
        ("Green  tea", "heading", 2),
        ("Eighty degrees (Celsius),\nno more.", "text", 0),
        ("one", "text", 0),
        ("two", "text", 0),
        ("kind | water\ngreen | 80", "table", 0),
    ]
    assert (found.facts.title, found.facts.tags, found.facts.date) == ("On tea", ("tea",), "2026-01-02")
    assert found.notes == ("1 pictures and objects are left out", "1 elements 'mystery' are left out")


@pytest.mark.parametrize(
    "content",
    [b"nonsense", writer(**{"content.xml": "<a/>"}), writer(**{"content.xml": "<a"}), writer(**{"content.xml": None})],
)
def test_what_is_no_such_file_says_so(read, content):
    with pytest.raises(InputError, match=r"ODT|OpenDocument"):
        read("a.odt", content)


def test_one_element_does_not_become_a_gigabyte_of_spaces(read):
    found = read("a.odt", writer('<text:p>a<text:s text:c="999999999"/>b</text:p>', **{"meta.xml": None}))
    assert len(found.text) < 200
