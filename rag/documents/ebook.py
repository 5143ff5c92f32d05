"""E-books: the chapters of an EPUB in the order in which they are read."""

import io
import posixpath
import zipfile
from typing import Any
from urllib.parse import unquote

from llama_platform.errors import InputError
from rag.documents.blocks import TextBuilder
from rag.documents.document import Facts, make_facts
from rag.documents.html import read_html

_CONTAINER = "META-INF/container.xml"


def read_epub(content: bytes, notes: list[str]) -> tuple[TextBuilder, Facts]:
    """Return the text of a book's chapters, and what it says of itself.

    Args:
        content: the file.
        notes: gets what was not understood.

    Raises:
        InputError: it is no EPUB.
    """
    from lxml.etree import LxmlError

    builder = TextBuilder()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            root = _xml(archive.read(_CONTAINER)).find(".//{*}rootfile").get("full-path")
            package = _xml(archive.read(root))
            files = {item.get("id"): item.get("href") for item in package.iterfind(".//{*}manifest/{*}item")}
            for chapter in package.iterfind(".//{*}spine/{*}itemref"):
                name = posixpath.normpath(posixpath.join(posixpath.dirname(root), unquote(files[chapter.get("idref")])))
                page, _ = read_html(archive.read(name), notes)
                for block in page.blocks:
                    builder.add(page.text[block.start : block.end], block.kind, block.level)
    except (KeyError, ValueError, TypeError, AttributeError, LxmlError, zipfile.BadZipFile) as error:
        raise InputError(f"not a readable EPUB: {error}") from error
    told = {name: package.findtext(f".//{{*}}metadata/{{*}}{name}") for name in ("title", "subject", "date")}
    return builder, make_facts(told["title"], told["subject"], (told["date"] or "")[:10] or None, notes)


def _xml(content: bytes) -> Any:
    from lxml import etree

    return etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
