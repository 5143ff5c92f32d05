"""PDF files: their text page by page, cells of a row in one line, and the values of their forms."""

import io
import re
from collections.abc import Mapping
from typing import Any

from llama_platform.errors import InputError
from rag.documents.blocks import TextBuilder
from rag.documents.document import Facts, make_facts

_PARTED = re.compile(r"(?<=[^\W\d_])-\n(?=[^\W\d_A-Z])")
"""A hyphen at the end of a line, between letters: `AB-12-` and `34` are no such word."""
_SAME_ROW = 0.6
"""Share of the lower of two heights that lines of one row have in common."""


def read_pdf(content: bytes, max_pages: int, max_chars: int, notes: list[str]) -> tuple[TextBuilder, Facts]:
    """Return the text of a file, and what it says of itself.

    Args:
        content: the file.
        max_pages: the most pages that it may have.
        max_chars: the most characters of text.
        notes: gets the pages that have no text.

    Raises:
        InputError: it is damaged or locked, or has no text, or too much.
    """
    import pypdfium2
    from pdftext.extraction import dictionary_output

    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        raise InputError("PDF with a password" if locked else f"not a readable PDF: {error}") from error
    if len(document) > max_pages:
        raise InputError(f"{len(document)} pages, over the limit of {max_pages}")
    known = document.get_metadata_dict()
    values = _form_values(content, notes)
    builder, empty, length = TextBuilder(), list[int](), 0
    for number in range(1, len(document) + 1):  # one by one, so that a long file is not in memory as characters
        (page,) = dictionary_output(io.BytesIO(content), page_range=[number - 1], disable_links=True)
        before = len(builder.blocks)
        for block in page["blocks"]:
            builder.add(_block_text(block, turned=page["rotation"] in (90, 270)), page=number)
        for value in values.get(number, ()):
            builder.add(value, page=number)
        if len(builder.blocks) == before:
            empty.append(number)
        length = builder.blocks[-1].end if builder.blocks else 0
        if length > max_chars:
            raise InputError(f"more than {max_chars} characters of text")
    if not builder.blocks:
        raise InputError("PDF without text; scanned pages need character recognition first")
    if empty:
        pages = ", ".join(map(str, empty[:20])) + (", …" if len(empty) > 20 else "")
        notes.append(f"{len(empty)} of {len(document)} pages have no text ({pages}): pictures, or scanned")
    made = re.sub(r"^D:(\d{4})(\d{2})(\d{2}).*", r"\1-\2-\3", known.get("ModDate") or known.get("CreationDate") or "")
    return builder, make_facts(known.get("Title"), known.get("Keywords"), made, notes)


def _block_text(block: Mapping[str, Any], *, turned: bool) -> str:
    """Return the text of a block: lines side by side are one row, words parted at line ends are whole."""
    from pdftext.postprocessing import postprocess_text

    low, high = (0, 2) if turned else (1, 3)
    rows: list[str] = []
    reach: tuple[float, float] | None = None
    for line in block["lines"]:
        text = postprocess_text("".join(span["text"] for span in line["spans"])).strip()
        here = line["bbox"][low], line["bbox"][high]
        if reach is not None and _overlap(reach, here) > _SAME_ROW:
            rows[-1] = f"{rows[-1]} {text}"
        else:
            rows.append(text)
        reach = here
    return _PARTED.sub("", "\n".join(rows))


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    common = min(one[1], other[1]) - max(one[0], other[0])
    return common / max(min(one[1] - one[0], other[1] - other[0]), 1e-6)


def _form_values(content: bytes, notes: list[str]) -> dict[int, list[str]]:
    """Return `name: value` of filled fields by page."""
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    found: dict[int, list[str]] = {}
    try:
        reader = PdfReader(io.BytesIO(content))
        for name, field in (reader.get_fields() or {}).items():
            value = field.value
            if value not in (None, "", "/Off"):
                shown = reader.get_pages_showing_field(field)
                page = next((page.page_number for page in shown if page is not None), 0) or 0
                found.setdefault(page + 1, []).append(f"{name}: {str(value).removeprefix('/')}")
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        notes.append(f"its form could not be read: {type(error).__name__}")
    return found
