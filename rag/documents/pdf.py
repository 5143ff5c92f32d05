"""PDF files: their text page by page and column by column, and the values of their forms."""

import io
import re

from llama_platform.errors import InputError
from rag.documents.blocks import TextBuilder
from rag.documents.document import Facts, make_facts
from rag.documents.pdf_layout import block_texts, running_heads, without_running


def read_pdf(content: bytes, max_pages: int, max_chars: int, notes: list[str]) -> tuple[TextBuilder, Facts]:
    """Return the text of a file, and what it says of itself.

    Args:
        content: the file.
        max_pages: the most pages that it may have.
        max_chars: the most characters of text.
        notes: gets the pages that have no text, and the running heads that are left out.

    Raises:
        InputError: it is damaged or locked, or has no text, or too much.
    """
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        raise InputError("PDF with a password" if locked else f"not a readable PDF: {error}") from error
    if len(document) > max_pages:
        raise InputError(f"{len(document)} pages, over the limit of {max_pages}")
    known = document.get_metadata_dict()
    values = _form_values(content, notes)
    pages = _pages(content, len(document), max_chars)
    builder, empty, running = TextBuilder(), list[int](), running_heads(pages)
    for number, blocks in enumerate(pages, 1):
        for text in (*without_running(blocks, running), *values.get(number, ())):
            builder.add(text, page=number)
        if not blocks and number not in values:
            empty.append(number)
    if running:
        shown = ", ".join(f"'{text}'" for text in sorted(running)[:3])
        notes.append(f"left out at the top or bottom of pages, # for numbers: {shown}")
    if not builder.blocks:
        raise InputError("PDF without text; scanned pages need character recognition first")
    if empty:
        which = ", ".join(map(str, empty[:20])) + (", …" if len(empty) > 20 else "")
        notes.append(f"{len(empty)} of {len(document)} pages have no text ({which}): pictures, or scanned")
    made = re.sub(r"^D:(\d{4})(\d{2})(\d{2}).*", r"\1-\2-\3", known.get("ModDate") or known.get("CreationDate") or "")
    return builder, make_facts(known.get("Title"), known.get("Keywords"), made, notes)


def _pages(content: bytes, count: int, max_chars: int) -> list[list[str]]:
    """Return the texts of each page's blocks."""
    from pdftext.extraction import dictionary_output

    pages, length = list[list[str]](), 0
    for number in range(count):  # one by one, so that a long file is not in memory as characters
        (page,) = dictionary_output(io.BytesIO(content), page_range=[number], disable_links=True)
        pages.append([text for text in block_texts(page) if text.strip()])
        length += sum(map(len, pages[-1]))
        if length > max_chars:
            raise InputError(f"more than {max_chars} characters of text")
    return pages


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
