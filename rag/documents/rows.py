"""Rows: JSONL, JSON and CSV files, in which every row with a text is a document of its own; read row by row."""

import csv
import hashlib
import json
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from llama_platform.errors import InputError
from llama_platform.storage.regular_files import open_file
from rag.documents.blocks import plain_blocks
from rag.documents.document import Document, Skipped, check_document_id, clean_text, make_facts
from rag.documents.formats import ReadingConfig

JSON_SUFFIXES = frozenset({".jsonl", ".ndjson"})
WHOLE_JSON = ".json"
CSV_DELIMITERS = {".csv": ",", ".tsv": "\t"}
ASKED = ("question", "answer")
"""Columns that are a text together, where there is no column of texts."""
ROW_SUFFIXES = JSON_SUFFIXES | {WHOLE_JSON} | CSV_DELIMITERS.keys()


def read_rows(path: Path, name: str, limits: ReadingConfig) -> Iterator[Document | Skipped]:
    """Yield the documents of a file, and the rows that are none.

    A row's id is `name#id`, with the row's own id where it has one, else a digest of it: a row that moves keeps that.

    Args:
        path: on this machine; its suffix tells the format.
        name: name of the file.
        limits: bounds on the file and its rows, and the name of the column with the texts.

    Raises:
        InputError: the file cannot be read as such.
    """
    suffix = path.suffix.lower()
    try:
        size = path.stat().st_size
        if size > limits.max_table_bytes:
            raise InputError(f"{size} bytes, over the limit of {limits.max_table_bytes}")
        with open_file(path) as raw, TextIOWrapper(raw, encoding="utf-8-sig", newline="") as stream:
            lines = _lines(stream, limits.max_bytes)
            if suffix == WHOLE_JSON:
                rows = _json_list(stream, limits.max_bytes)
            else:
                rows = _json_rows(lines) if suffix in JSON_SUFFIXES else _csv_rows(lines, suffix, limits)
            for number, row in rows:
                yield _document(name, number, row, limits)
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error


def _document(name: str, number: int, row: Any, limits: ReadingConfig) -> Document | Skipped:
    where = f"{name}#row {number}"
    if isinstance(row, InputError):
        return Skipped(where, str(row))
    text, title = row.get(limits.text_column), row.get("title")
    if text is None and all(isinstance(row.get(name), str) and row[name].strip() for name in ASKED):
        text, title = "\n\n".join(row[name].strip() for name in ASKED), title or row["question"]
    if not isinstance(text, str) or not text.strip():
        return Skipped(where, f"no text in '{limits.text_column}'; the row has {', '.join(map(str, list(row)[:10]))}")
    own = row.get("id")
    digest = hashlib.sha256(json.dumps(row, sort_keys=True, default=str).encode("utf-8", "replace")).hexdigest()
    try:
        known = own is not None and own != ""
        document_id = check_document_id(f"{name}#{own}") if known else f"{name}#{digest[:12]}"
    except InputError as error:
        return Skipped(where, str(error))
    notes: list[str] = []
    facts, text = make_facts(title, row.get("tags"), row.get("date"), notes), clean_text(text)
    return Document(document_id, text, digest, facts, tuple(plain_blocks(text)), tuple(notes))


def _lines(stream: TextIO, max_chars: int) -> Iterator[str | None]:
    """Yield lines; None for one that is too long, of which no more than that is ever in memory."""
    while line := stream.readline(max_chars):
        if len(line) < max_chars or line.endswith("\n"):
            yield line
            continue
        while (rest := stream.readline(max_chars)) and not rest.endswith("\n"):
            continue
        yield None


def _json_rows(lines: Iterator[str | None]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, 1):
        if line is None:
            yield number, InputError("a line over the limit of max_bytes")
        elif line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, InputError(f"not valid JSON: {error}")
            else:
                yield number, row if isinstance(row, dict) else InputError("not an object")


def _json_list(stream: TextIO, max_chars: int) -> Iterator[tuple[int, Any]]:
    """Yield the objects of a file that is one JSON list, or one object."""
    text = stream.read(max_chars + 1)
    if len(text) > max_chars:
        raise InputError("over the limit of max_bytes; JSON lines (.jsonl) are read row by row")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}") from error
    if not isinstance(whole, list | dict):
        raise InputError("neither a list of objects nor an object")
    for number, row in enumerate(whole if isinstance(whole, list) else [whole], 1):
        yield number, row if isinstance(row, dict) else InputError("not an object")


def _csv_rows(lines: Iterator[str | None], suffix: str, limits: ReadingConfig) -> Iterator[tuple[int, Any]]:
    def bounded() -> Iterator[str]:
        for line in lines:
            if line is None:  # inside a CSV file no later row can be told from the rest of this one
                raise InputError("a line over the limit of max_bytes")
            yield line

    csv.field_size_limit(limits.max_bytes)
    reader = csv.DictReader(bounded(), delimiter=CSV_DELIMITERS[suffix], strict=True)
    try:
        columns = reader.fieldnames or []
        if limits.text_column not in columns and not {*ASKED} <= {*columns}:
            raise InputError(f"no column '{limits.text_column}'; there are {', '.join(columns[:10]) or 'none'}")
        for number, row in enumerate(reader, 1):
            surplus, missing = len(row.get(None) or ()), [key for key, value in row.items() if value is None]
            if surplus:
                problem = f"line {reader.line_num}: {len(columns) + surplus} fields, the header has {len(columns)}"
                yield number, InputError(f"{problem}: put a text with a '{CSV_DELIMITERS[suffix]}' in quotes")
            elif missing:
                problem = f"line {reader.line_num}: no {', '.join(missing[:5])}: the header has {len(columns)} fields"
                yield number, InputError(problem)
            else:
                yield number, row
    except csv.Error as error:
        raise InputError(f"not valid CSV near line {reader.line_num}: {error}") from error
