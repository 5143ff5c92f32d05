"""Slides and sheets: the text of PowerPoint and Excel files."""

import io
import zipfile
from collections.abc import Iterator
from typing import Any

from llama_platform.errors import InputError
from rag.documents.blocks import TextBuilder
from rag.documents.document import Facts, make_facts


def read_pptx(content: bytes, notes: list[str]) -> tuple[TextBuilder, Facts]:
    """Return the text of slides with what their speaker's notes say, a slide as a page.

    Args:
        content: the file.
        notes: gets what was not understood.

    Raises:
        InputError: it is no PowerPoint file.
    """
    import pptx
    from lxml.etree import LxmlError

    builder, pictures = TextBuilder(), 0
    try:
        deck = pptx.Presentation(io.BytesIO(content))
        known = deck.core_properties
        facts = make_facts(known.title, known.keywords, known.modified or known.created, notes)
        for page, slide in enumerate(deck.slides, 1):
            title = slide.shapes.title
            if title is not None:
                builder.add(title.text_frame.text, "heading", 1, page)
            for shape in _shapes(slide.shapes):
                if title is not None and shape.shape_id == title.shape_id:
                    continue
                if shape.has_text_frame:
                    builder.add("\n".join(p.text for p in shape.text_frame.paragraphs), page=page)
                elif getattr(shape, "has_table", False):
                    rows = ([cell.text for cell in row.cells] for row in shape.table.rows)
                    builder.add(_table(rows), "table", page=page)
                else:
                    pictures += 1
            if slide.has_notes_slide:
                builder.add(slide.notes_slide.notes_text_frame.text, page=page)
    except (KeyError, ValueError, AttributeError, IndexError, LxmlError, zipfile.BadZipFile) as error:
        raise InputError(f"not a readable PPTX: {error}") from error
    if pictures:
        notes.append(f"{pictures} pictures, charts and the like on slides are left out")
    return builder, facts


def read_xlsx(content: bytes, notes: list[str]) -> tuple[TextBuilder, Facts]:
    """Return the values of sheets, each a table under the sheet's name; of formulas what Excel last computed.

    Args:
        content: the file.
        notes: gets what was not understood.

    Raises:
        InputError: it is no Excel file.
    """
    import openpyxl

    builder = TextBuilder()
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        known = book.properties
        facts = make_facts(known.title, known.keywords, known.modified or known.created, notes)
        for sheet in book.worksheets:
            builder.add(sheet.title, "heading", 1)
            rows = ([_shown(value) for value in row] for row in sheet.iter_rows(values_only=True))
            builder.add(_table(row for row in rows if any(row)), "table")
    except (OSError, KeyError, ValueError, AttributeError, IndexError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"not a readable XLSX: {error}") from error
    return builder, facts


def _shapes(shapes: Any) -> Iterator[Any]:
    """Yield shapes, and those of groups."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes)
        else:
            yield shape


def _table(rows: Iterator[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(' '.join(cell.split()) for cell in row)} |" for row in rows)


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
