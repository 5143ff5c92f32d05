"""Formats: files of one document each, read by libraries into texts with headings and pages.

These parsers meet whatever users send; `GuardedReader` runs them where a crash, a loop or a bomb does no harm.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import yaml
from charset_normalizer import from_bytes
from pydantic import Field

from llama_platform.config import Config
from llama_platform.errors import InputError
from llama_platform.storage.regular_files import open_file
from rag.documents.archives import check_unpacked
from rag.documents.blocks import SOFT_HYPHEN, Block, TextBuilder, markdown_blocks, plain_blocks, rst_blocks
from rag.documents.document import Document, Facts, clean_text, make_facts
from rag.documents.ebook import read_epub
from rag.documents.html import read_html
from rag.documents.mail import read_mail
from rag.documents.office import read_pptx, read_xlsx
from rag.documents.opendocument import read_odt
from rag.documents.pdf import read_pdf
from rag.documents.word import read_docx

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_KEY_VALUE = re.compile(r"\s*([A-Za-z_][\w -]{0,40}):\s*(.*)")
_DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=\s]{64,}")


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
    text, blocks, facts, notes = reader(content, limits)
    if len(text) > limits.max_bytes:
        raise InputError(f"{len(text)} characters once unpacked, over the limit of {limits.max_bytes}")
    if not text.strip():
        raise InputError("empty: no text in it")
    digest = hashlib.sha256(content).hexdigest()
    return Document(name, clean_text(text), digest, facts, tuple(blocks), tuple(notes))


def unsupported(suffix: str, supported: Iterable[str]) -> InputError:
    """Return the error of a file whose format nothing here reads.

    Args:
        suffix: the end of the file's name, lower case with the dot; empty for a name without one.
        supported: the suffixes that are read.
    """
    which = f"suffix '{suffix}'" if suffix else "no suffix"
    return InputError(f"files with {which} are not supported; supported: {', '.join(sorted(supported))}")


Parsed = tuple[str, Sequence[Block], Facts, list[str]]
"""Text, its blocks, what it says of itself, and what was not understood."""
Reading = Callable[[bytes, ReadingConfig], Parsed]


def _text(content: bytes, _limits: ReadingConfig) -> Parsed:
    notes: list[str] = []
    text = _decode(content, notes)
    return text, plain_blocks(text), Facts(), notes


def _rst(content: bytes, _limits: ReadingConfig) -> Parsed:
    notes: list[str] = []
    text = _decode(content, notes).replace("\r\n", "\n")
    return text, rst_blocks(text), Facts(), notes


def _markdown(content: bytes, _limits: ReadingConfig) -> Parsed:
    notes: list[str] = []
    return _read_markdown(_decode(content, notes).replace("\r\n", "\n"), notes)


def _read_markdown(text: str, notes: list[str]) -> Parsed:
    text, pictures = _DATA_URI.subn("data:", text)
    if pictures:
        notes.append(f"{pictures} pictures within the text are left out")
    facts = Facts()
    if head := _FRONT_MATTER.match(text):
        known = _front_matter(head[1])
        if known:
            facts = make_facts(known.get("title"), known.get("tags") or known.get("keywords"), known.get("date"), notes)
            # Blanked, not cut out: spans count the characters of the file.
            text = re.sub(r"[^\n]", " ", head[0]) + text[head.end() :]
    return text, markdown_blocks(text), facts, notes


def _front_matter(head: str) -> dict[str, object]:
    """Return what a front matter says; also of `key: value` lines that are no YAML, as with a colon in a title."""
    try:
        known = yaml.safe_load(head)
    except (yaml.YAMLError, ValueError):  # such as a 30th of February
        lines = [_KEY_VALUE.fullmatch(line) for line in head.splitlines() if line.strip()]
        known = {found[1].lower(): found[2].strip("\"' ") for found in lines if found} if all(lines) else None
    return known if isinstance(known, dict) else {}


def _html(content: bytes, _limits: ReadingConfig) -> Parsed:
    notes: list[str] = []
    builder, facts = read_html(content, notes)
    return builder.text, builder.blocks, facts, notes


def _notebook(content: bytes, _limits: ReadingConfig) -> Parsed:
    """Read the cells of a Jupyter notebook as Markdown, code as fenced blocks; what cells have printed is left out."""
    notes: list[str] = []
    try:
        whole = json.loads(_decode(content, notes))
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in whole["cells"]]
        language = str(whole.get("metadata", {}).get("kernelspec", {}).get("language", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"not a notebook of nbformat 4: {error!r}") from error
    parts = [text if kind != "code" else f"```{language}\n{text}\n```" for kind, text in cells if text.strip()]
    if printed := sum(bool(cell.get("outputs")) for cell in whole["cells"]):
        notes.append(f"what {printed} cells have printed or drawn is left out")
    return _read_markdown("\n\n".join(parts), notes)


def _pdf(content: bytes, limits: ReadingConfig) -> Parsed:
    notes: list[str] = []
    builder, facts = read_pdf(content, limits.max_pages, limits.max_bytes, notes)
    return builder.text, builder.blocks, facts, notes


def _mail(content: bytes, _limits: ReadingConfig) -> Parsed:
    notes: list[str] = []
    builder, facts = read_mail(content, notes)
    return builder.text, builder.blocks, facts, notes


def _archive(kind: str, read: Callable[[bytes, list[str]], tuple[TextBuilder, Facts]]) -> Reading:
    """Return the reader of a format that is a zip archive within; what unpacks to too much never reaches `read`."""

    def parse(content: bytes, limits: ReadingConfig) -> Parsed:
        check_unpacked(content, limits.max_bytes, kind)
        notes: list[str] = []
        builder, facts = read(content, notes)
        return builder.text, builder.blocks, facts, notes

    return parse


def _guess(content: bytes) -> str | None:
    """Return the encoding that a text seems to have; None where it is none.

    Of encodings that differ in a few letters, the most usual one counts unless another is clearly better.
    """
    found = from_bytes(content)
    best = found.best()
    if best is None:
        return None
    usual = [one for one in found if USUAL_ENCODING in one.could_be_from_charset]
    return USUAL_ENCODING if usual and usual[0].chaos <= best.chaos + MORE_CHAOS else best.encoding


def _decode(content: bytes, notes: list[str]) -> str:
    """Return text in whatever encoding it is in; another than UTF-8 is guessed, and noted.

    Raises:
        InputError: it is no text.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        guess = _guess(content)
        if guess is None or (b"\x00" in content and not guess.startswith(("utf_16", "utf_32"))):
            raise InputError(f"not UTF-8 text (byte {error.start}), nor of another encoding by its looks") from error
        text = content.decode(guess)
        notes.append(f"not UTF-8: read as {guess}, which is a guess")
    if "\x00" in text:
        raise InputError("not text: holds NUL bytes")
    return text.replace(SOFT_HYPHEN, "")


USUAL_ENCODING, MORE_CHAOS = "cp1252", 0.1
TEXT_SUFFIXES = frozenset({".txt", ".text"})
READERS: Mapping[str, Reading] = {
    **dict.fromkeys(TEXT_SUFFIXES, _text),
    ".rst": _rst,
    **dict.fromkeys((".md", ".markdown", ".mdx"), _markdown),
    **dict.fromkeys((".html", ".htm", ".xhtml"), _html),
    ".pdf": _pdf,
    ".docx": _archive("DOCX", read_docx),
    ".pptx": _archive("PPTX", read_pptx),
    ".xlsx": _archive("XLSX", read_xlsx),
    ".epub": _archive("EPUB", read_epub),
    ".odt": _archive("ODT", read_odt),
    ".eml": _mail,
    ".ipynb": _notebook,
}
