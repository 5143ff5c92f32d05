"""Formats: files of one document each, read by libraries into texts with headings and pages.

These parsers meet whatever users send; `GuardedReader` runs them where a crash, a loop or a bomb does no harm.
"""

import hashlib
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from llama_platform.config import Config
from llama_platform.errors import InputError
from llama_platform.storage.regular_files import open_file
from rag.documents.document import Document, Facts, clean_text, make_facts

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_INVISIBLE = "script, style, template, noscript, nav, footer, head, svg, [hidden], [aria-hidden=true]"


class ReadingConfig(Config):
    """How much of a file is read at most, and where tables hold their texts."""

    max_bytes: Annotated[int, Field(ge=1)] = 20 * 2**20
    """Maximum size in bytes of a file with one document, before and after unpacking; larger ones are reported and
    skipped."""
    max_table_bytes: Annotated[int, Field(ge=1)] = 2**30
    """Maximum size in bytes of a file with a document in each row; it is read row by row."""
    max_pages: Annotated[int, Field(ge=1)] = 2000
    """Of a PDF; longer ones are reported and skipped."""
    timeout_s: Annotated[float, Field(gt=0)] = 60
    """For reading and cutting one file with one document."""
    memory_bytes: Annotated[int, Field(ge=2**28)] = 2 * 2**30
    """Address space of the process that reads."""
    text_column: str = "text"
    """Of JSONL and CSV files; `id`, `title`, `tags` and `date` are read where they are."""


def read_file(path: Path, name: str, limits: ReadingConfig) -> Document:
    """Read one file as one document.

    Args:
        path: on this machine; its suffix tells the format.
        name: becomes the document's id.
        limits: bounds on what is read.

    Raises:
        InputError: why it is no document.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise unsupported(path.suffix.lower(), READERS)
    try:
        size = path.stat().st_size
        if size > limits.max_bytes:
            raise InputError(f"{size} bytes, over the limit of {limits.max_bytes}")
        with open_file(path) as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error
    text, facts, page_starts = reader(content, limits)
    if len(text) > limits.max_bytes:
        raise InputError(f"{len(text)} characters once unpacked, over the limit of {limits.max_bytes}")
    if not text.strip():
        raise InputError("empty: no text in it")
    markdown = path.suffix.lower() not in TEXT_SUFFIXES | {".pdf"}
    return Document(name, clean_text(text), markdown, hashlib.sha256(content).hexdigest(), facts, page_starts)


def unsupported(suffix: str, supported: Iterable[str]) -> InputError:
    """Return the error of a file whose format nothing here reads.

    Args:
        suffix: the end of the file's name, lower case with the dot; empty for a name without one.
        supported: the suffixes that are read.
    """
    which = f"suffix '{suffix}'" if suffix else "no suffix"
    return InputError(f"files with {which} are not supported; supported: {', '.join(sorted(supported))}")


Parsed = tuple[str, Facts, tuple[int, ...]]


def _text(content: bytes, _limits: ReadingConfig) -> Parsed:
    return _decode(content), Facts(), ()


def _markdown(content: bytes, _limits: ReadingConfig) -> Parsed:
    text = _decode(content).replace("\r\n", "\n")
    head = _FRONT_MATTER.match(text)
    if head is None:
        return text, Facts(), ()
    try:
        known = yaml.safe_load(head[1])
    except (yaml.YAMLError, ValueError):  # such as a 30th of February
        known = None
    if not isinstance(known, dict):
        return text, Facts(), ()
    facts = make_facts(known.get("title"), known.get("tags") or known.get("keywords"), known.get("date"))
    # Blanked, not cut out: spans count the characters of the file.
    return re.sub(r"[^\n]", " ", head[0]) + text[head.end() :], facts, ()


def _html(content: bytes, _limits: ReadingConfig) -> Parsed:
    from bs4 import BeautifulSoup, Comment, XMLParsedAsHTMLWarning
    from markdownify import MarkdownConverter

    try:
        with warnings.catch_warnings(category=XMLParsedAsHTMLWarning, action="ignore"):
            soup = BeautifulSoup(content, "lxml")  # of HTML, for XHTML too: it knows no entities that expand
        title = soup.title.get_text() if soup.title else None
        meta = {str(tag.get("name", "")).lower(): tag.get("content") for tag in soup.find_all("meta")}
        for element in soup.select(_INVISIBLE):
            element.decompose()
        for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
            comment.extract()
        converter = MarkdownConverter(heading_style="atx", strip=["a", "img"], escape_underscores=False,
                                      escape_asterisks=False)  # fmt: skip
        text: str = converter.convert_soup(soup)
    except RecursionError as error:
        raise InputError("HTML nested too deeply") from error
    return text, make_facts(title, meta.get("keywords"), meta.get("date")), ()


def _pdf(content: bytes, limits: ReadingConfig) -> Parsed:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        raise InputError("PDF with a password" if locked else f"not a readable PDF: {error}") from error
    if len(document) > limits.max_pages:
        raise InputError(f"{len(document)} pages, over the limit of {limits.max_pages}")
    texts, starts, length = [], [], 0
    for page in document:
        text = page.get_textpage().get_text_bounded().replace("\r\n", "\n").replace("\r", "\n") + "\n\n"
        starts.append(length)
        texts.append(text)
        length += len(text)
        if length > limits.max_bytes:
            raise InputError(f"more than {limits.max_bytes} characters of text")
    known = document.get_metadata_dict()
    if not "".join(texts).strip():
        raise InputError("PDF without text; scanned pages need character recognition first")
    made = re.sub(r"^D:(\d{4})(\d{2})(\d{2}).*", r"\1-\2-\3", known.get("ModDate") or known.get("CreationDate") or "")
    return "".join(texts), make_facts(known.get("Title"), known.get("Keywords"), made), tuple(starts)


def _docx(content: bytes, limits: ReadingConfig) -> Parsed:
    import io

    import docx
    from docx.table import Table
    from lxml.etree import LxmlError

    _check_zip(content, limits.max_bytes)
    try:
        document = docx.Document(io.BytesIO(content))
        blocks = [
            _docx_table(item) if isinstance(item, Table) else _docx_paragraph(item)
            for item in document.iter_inner_content()
        ]
        known = document.core_properties
        facts = make_facts(known.title, known.keywords, known.modified or known.created)
    except (KeyError, ValueError, LxmlError, zipfile.BadZipFile) as error:
        raise InputError(f"not a readable DOCX: {error}") from error
    return "\n\n".join(block for block in blocks if block.strip()), facts, ()


def _docx_paragraph(paragraph: Any) -> str:
    style = paragraph.style.name if paragraph.style is not None else ""
    heading = re.fullmatch(r"Heading (\d)|(Title)", style or "")
    text = str(paragraph.text).strip()
    if heading and text:
        return "#" * (1 if heading[2] else min(int(heading[1]), 6)) + f" {text}"
    return f"- {text}" if style.startswith("List") and text else text


def _docx_table(table: Any) -> str:
    rows = [[" ".join(cell.text.split()).replace("|", "/") for cell in row.cells] for row in table.rows]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " - |" * len(rows[0]), *lines[1:]]) if lines else ""


def _check_zip(content: bytes, max_bytes: int) -> None:
    """Refuse what would unpack to more than allowed; zipfile never unpacks more than a file declares."""
    import io

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OverflowError) as error:
        raise InputError(f"not a readable DOCX: {error}") from error
    if unpacked > max_bytes:
        raise InputError(f"unpacks to {unpacked} bytes, over the limit of {max_bytes}")


def _decode(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text (byte {error.start})") from error
    if "\x00" in text:
        raise InputError("not text: holds NUL bytes")
    return text


TEXT_SUFFIXES = frozenset({".txt", ".text", ".rst"})
READERS: Mapping[str, Callable[[bytes, ReadingConfig], Parsed]] = {
    **dict.fromkeys(TEXT_SUFFIXES, _text),
    **dict.fromkeys((".md", ".markdown", ".mdx"), _markdown),
    **dict.fromkeys((".html", ".htm", ".xhtml"), _html),
    ".pdf": _pdf,
    ".docx": _docx,
}
