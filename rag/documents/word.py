"""Word files: the text as Word shows it, with tracked changes accepted."""

import io
import zipfile

from llama_platform.errors import InputError
from rag.documents.blocks import TextBuilder
from rag.documents.document import Facts, make_facts
from rag.documents.html import read_html

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STYLES = "p[style-name='Title'] => h1:fresh"


def read_docx(content: bytes, notes: list[str]) -> tuple[TextBuilder, Facts]:
    """Return the text of a file, and what it says of itself.

    Args:
        content: the file.
        notes: gets what was not understood.

    Raises:
        InputError: it is no Word file.
    """
    import docx
    import mammoth
    from lxml.etree import LxmlError

    try:
        known = docx.Document(io.BytesIO(content)).core_properties
        facts = make_facts(known.title, known.keywords, known.modified or known.created, notes)
        found = mammoth.convert_to_html(
            io.BytesIO(_simplified(content)), style_map=_STYLES, convert_image=mammoth.images.img_element(_no_picture)
        )
    except (KeyError, ValueError, AttributeError, IndexError, LxmlError, zipfile.BadZipFile) as error:
        raise InputError(f"not a readable DOCX: {error}") from error
    messages = {message.message for message in found.messages}
    notes += sorted(message for message in messages if "unrecognised element" in message.lower())
    builder, _ = read_html(found.value, notes)
    return builder, facts


def _no_picture(_: object) -> dict[str, str]:
    return {"src": ""}


def _simplified(content: bytes) -> bytes:
    """Return the file without two things that mammoth does not know: simple fields, and text that Word hides."""
    from lxml import etree

    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as target:
        for info in source.infolist():
            part = source.read(info)
            if info.filename.startswith("word/") and info.filename.endswith(".xml"):
                root = etree.fromstring(part, etree.XMLParser(resolve_entities=False, no_network=True))
                for mark in list(root.iter(f"{_WORD}vanish")):
                    run = mark.getparent().getparent()
                    if mark.get(f"{_WORD}val", "1") not in ("0", "false") and run.tag == f"{_WORD}r":
                        run.getparent().remove(run)
                etree.strip_tags(root, f"{_WORD}fldSimple")
                part = etree.tostring(root, encoding="UTF-8", xml_declaration=True, standalone=True)
            target.writestr(info.filename, part)
    return result.getvalue()
