"""OpenDocument: the text of Writer's files, as LibreOffice and others save them."""

import io
import zipfile
from collections.abc import Iterator
from typing import Any

from llama_platform.errors import InputError
from rag.documents.blocks import TextBuilder
from rag.documents.document import Facts, make_facts

_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_DRAW = "{urn:oasis:names:tc:opendocument:xmlns:drawing:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_MOST_REPEATED = 100
"""Spaces that one element may stand for."""
_NOT_SHOWN = frozenset({f"{_TEXT}tracked-changes", f"{_OFFICE}annotation", f"{_OFFICE}annotation-end"})
_PASSED_THROUGH = frozenset({f"{_TEXT}section", f"{_TEXT}list", f"{_TEXT}list-item", f"{_TEXT}list-header"})
_NO_TEXT = frozenset({f"{_TEXT}sequence-decls", f"{_OFFICE}forms", f"{_TEXT}variable-decls", f"{_TEXT}soft-page-break"})


def read_odt(content: bytes, notes: list[str]) -> tuple[TextBuilder, Facts]:
    """Return what a Writer file shows, with tracked changes accepted: headings, paragraphs, lists, tables, footnotes.

    Args:
        content: the file.
        notes: gets what was not understood.

    Raises:
        InputError: it is no such file.
    """
    from lxml.etree import LxmlError

    builder, passed_over = TextBuilder(), dict[str, int]()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            body = _xml(archive.read("content.xml")).find(f"{_OFFICE}body/{_OFFICE}text")
            if body is None:
                raise InputError("not a text: OpenDocument of another kind")
            meta = _xml(archive.read("meta.xml")) if "meta.xml" in archive.namelist() else body
    except (KeyError, ValueError, LxmlError, zipfile.BadZipFile) as error:
        raise InputError(f"not a readable ODT: {error}") from error
    _add_parts(body, builder, passed_over)
    if pictures := sum(1 for _ in body.iter(f"{_DRAW}image", f"{_DRAW}object")):
        notes.append(f"{pictures} pictures and objects are left out")
    notes += [f"{count} elements '{name}' are left out" for name, count in sorted(passed_over.items())]
    told = {name: meta.findtext(f".//{{*}}{name}") for name in ("title", "keyword", "date")}
    return builder, make_facts(told["title"], told["keyword"], (told["date"] or "")[:10] or None, notes)


def _add_parts(parent: Any, builder: TextBuilder, passed_over: dict[str, int]) -> None:
    for element in parent:
        if not isinstance(element.tag, str) or element.tag in _NOT_SHOWN or element.tag in _NO_TEXT:
            continue
        if element.tag == f"{_TEXT}h":
            level = element.get(f"{_TEXT}outline-level", "1")
            builder.add(_words(element), "heading", int(level) if level.isdigit() else 1)
        elif element.tag == f"{_TEXT}p":
            builder.add(_words(element))
        elif element.tag == f"{_TABLE}table":
            builder.add("\n".join(_rows(element)), "table")
        elif element.tag in _PASSED_THROUGH:
            _add_parts(element, builder, passed_over)
        elif (index := element.find(f"{_TEXT}index-body")) is not None:  # a table of contents repeats the headings
            passed_over["table of contents"] = passed_over.get("table of contents", 0) + (len(index) > 0)
        else:
            name = element.tag.partition("}")[2]
            passed_over[name] = passed_over.get(name, 0) + 1


def _rows(table: Any) -> Iterator[str]:
    for row in table.iter(f"{_TABLE}table-row"):
        cells = [_words(cell) for cell in row if cell.tag == f"{_TABLE}table-cell"]
        if any(cells):
            yield " | ".join(cells)


def _words(element: Any) -> str:
    return "".join(_pieces(element)).strip()


def _pieces(element: Any) -> Iterator[str]:
    """Yield the text of an element: spaces, tabs and line breaks are elements, too."""
    yield element.text or ""
    for child in element:
        if not isinstance(child.tag, str) or child.tag in _NOT_SHOWN:
            pass
        elif child.tag == f"{_TEXT}s":
            count = child.get(f"{_TEXT}c", "1")
            yield " " * min(int(count) if count.isdigit() else 1, _MOST_REPEATED)
        elif child.tag == f"{_TEXT}tab":
            yield "\t"
        elif child.tag == f"{_TEXT}line-break":
            yield "\n"
        elif child.tag == f"{_TEXT}note":
            yield f" ({_words(child.find(f'{_TEXT}note-body'))})" if child.find(f"{_TEXT}note-body") is not None else ""
        else:
            yield from _pieces(child)
            if child.tag == f"{_TEXT}p":  # paragraphs of a cell or a frame
                yield "\n"
        yield child.tail or ""


def _xml(content: bytes) -> Any:
    from lxml import etree

    return etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
