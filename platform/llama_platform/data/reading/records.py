"""Records: what chat files hold, one by one, each with its file and line. Files are streamed, whatever their size.

Files are JSON lists, JSON lines, plain text with `### Human:` tags, CSV, TSV or Parquet; all but the last may be
compressed by gzip. Text is UTF-8: bytes that are not become U+FFFD here, and a finding of the doctor's later.
"""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal, TextIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from llama_platform.data.reading.sources import SourceFile
from llama_platform.errors import InputError
from llama_platform.storage.regular_files import open_file

WINDOW_CHARS = 2**20
MAX_RECORD_CHARS = 2**26
"""A record, or a whole text file, of more characters is refused rather than kept in memory."""
TAG = re.compile(r"###\s*(Human|User|Assistant|System)\s*:", re.IGNORECASE)
_USER_NEXT = r"\s*(?=###\s*(?:Human|User|System)\s*:)"
EMPTY_LINE = re.compile(rf"\n[ \t]*\n{_USER_NEXT}", re.IGNORECASE)
_NEXT_CHAT = re.compile(
    rf"\n(?:[ \t]*\n){{2,}}{_USER_NEXT}"
    rf"|\n[ \t]*(?:[-*=_]{{3,}}|<\|endoftext\|>|</s>)[ \t]*\n{_USER_NEXT}"
    r"|\n[ \t]*\n\s*(?=###\s*System\s*:)",
    re.IGNORECASE,
)
ChatBreak = Literal["two_empty_lines", "one_empty_line"]
_SPACE = re.compile(r"\s*")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file, not yet understood."""

    value: Any
    where: str
    """`file:line`."""


@dataclass(frozen=True, slots=True)
class BrokenRecord:
    """A place in a file that could not be read."""

    problem: str
    where: str


def read_records(file: SourceFile, chat_break: ChatBreak = "two_empty_lines") -> Iterator[Record | BrokenRecord]:
    """Yield the records of a file in order; a broken one of JSON lines comes as BrokenRecord.

    Args:
        file: the file.
        chat_break: what parts the chats of a tagged text file; lines of `---` and the like, and a system turn behind
            an empty line, do so in any case.

    Raises:
        InputError: the file is empty, of no known kind, or damaged at a place after which no record can be told from
            the next.
    """
    if file.problem is not None:
        raise InputError(f"{file.name}: {file.problem}")
    try:
        with open_file(file.path) as raw:
            mark = raw.peek(4)[:4]
            if mark.startswith(_UTF16_MARKS):
                raise InputError(f"{file.name}:1: UTF-16 text; convert the file to UTF-8")
            if mark == _PARQUET:
                yield from _read_parquet(file.name, raw)
                return
            content = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if mark.startswith(_GZIP) else raw
            suffix = PurePosixPath(file.name.removesuffix(".gz")).suffix.lower()
            # Within a quoted cell a line end is text, and stays as it is.
            newline = "" if suffix in _DELIMITERS else None
            with TextIOWrapper(content, encoding="utf-8-sig", errors="replace", newline=newline) as stream:
                if suffix in _DELIMITERS:
                    yield from _read_table(file.name, stream, _DELIMITERS[suffix])
                else:
                    yield from _read_stream(file.name, stream, chat_break)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{file.name}: damaged gzip: {error}") from error
    except OSError as error:
        raise InputError(f"{file.name}: cannot be read: {error.strerror or error}") from error


def _read_stream(name: str, stream: TextIO, chat_break: ChatBreak) -> Iterator[Record | BrokenRecord]:
    window = _Window(stream)
    window.skip_space()
    start = window.character()
    if not start:
        raise InputError(f"{name}: empty file")
    stream.seek(0)
    if start == "[":
        yield from _read_list(name, _Window(stream))
    elif start == "{":
        yield from _read_lines(name, stream)
    else:
        text = stream.read(MAX_RECORD_CHARS)
        if not TAG.search(text):
            raise InputError(
                f"{name}:1: unknown format: neither a JSON list, nor JSON lines, nor text with '### Human:' tags"
            )
        if stream.read(1):
            raise InputError(f"{name}: tagged text of more than {MAX_RECORD_CHARS:,} characters; split the file")
        yield from _read_text(name, text, EMPTY_LINE if chat_break == "one_empty_line" else _NEXT_CHAT)


class _Window:
    """The part of a stream that is being looked at, and the line it begins on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text, self._position, self._ended = "", 0, False
        self._line, self._counted = 1, 0

    def line(self) -> int:
        """Return the line of the present position."""
        self._line += self._text.count("\n", self._counted, self._position)
        self._counted = self._position
        return self._line

    def character(self) -> str:
        """Return the next character, or nothing at the end."""
        if self._position >= len(self._text):
            self._grow()
        return self._text[self._position : self._position + 1]

    def skip(self) -> None:
        """Pass one character."""
        self._position += 1

    def skip_space(self) -> None:
        """Pass whitespace."""
        while True:
            self._position = _SPACE.match(self._text, self._position).end()  # type: ignore[union-attr]
            if self._position < len(self._text) or not self._grow():
                return

    def value(self, decoder: json.JSONDecoder) -> Any:
        """Pass one JSON value and return it; JSONDecodeError has the line of the file."""
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                # At the edge of the window the value may just not be there yet.
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - 16
                if not cut or not self._grow():
                    error.lineno = self.line() + self._text.count("\n", self._position, error.pos)
                    raise
            else:
                if end < len(self._text) or not self._grow():
                    self._position = end
                    return value

    def _grow(self) -> bool:
        more = "" if self._ended else self._stream.read(max(WINDOW_CHARS, len(self._text) - self._position))
        self._ended = not more
        if more:
            self.line()
            self._text, self._position, self._counted = self._text[self._position :] + more, 0, 0
            if len(self._text) > 2 * MAX_RECORD_CHARS:
                raise json.JSONDecodeError(f"a record of more than {MAX_RECORD_CHARS:,} characters", self._text, 0)
        return bool(more)


def _read_list(name: str, window: _Window) -> Iterator[Record]:
    decoder = json.JSONDecoder()
    window.skip_space()
    window.skip()  # the bracket
    window.skip_space()
    line, first = window.line(), True
    while window.character() != "]":
        if not first:
            if window.character() not in (",", ""):
                raise InputError(f"{name}:{line}: not valid JSON: a comma is missing after this record")
            window.skip()
            window.skip_space()
        first = False
        line = window.line()
        if not window.character():
            raise InputError(f"{name}:{line}: not valid JSON: the list is not closed; is the file cut off?")
        try:
            value = window.value(decoder)
        except json.JSONDecodeError as error:
            raise InputError(f"{name}:{error.lineno}: not valid JSON: {error.msg} (column {error.colno})") from error
        except RecursionError as error:
            raise InputError(f"{name}:{line}: not valid JSON: nested too deeply") from error
        except ValueError as error:  # a number of thousands of digits
            raise InputError(f"{name}:{line}: not valid JSON: {error}") from error
        yield Record(value, f"{name}:{line}")
        window.skip_space()
    line = window.line()
    window.skip()
    window.skip_space()
    if window.character():
        raise InputError(f"{name}:{line}: not valid JSON: more text after the end of the list")


def _read_lines(name: str, stream: TextIO) -> Iterator[Record | BrokenRecord]:
    first = next(line for line in stream if line.strip())
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        # Perhaps one record over several lines.
        try:
            whole = json.loads(first + stream.read(MAX_RECORD_CHARS))
        except (ValueError, RecursionError):
            pass
        else:
            yield Record(whole, f"{name}:1")
            return
    stream.seek(0)
    for number, line in enumerate(stream, 1):
        if line.strip():
            try:
                yield Record(json.loads(line), f"{name}:{number}")
            except json.JSONDecodeError as error:
                yield BrokenRecord(f"not valid JSON: {error.msg} (column {error.colno})", f"{name}:{number}")
            except RecursionError:
                yield BrokenRecord("not valid JSON: nested too deeply", f"{name}:{number}")
            except ValueError as error:  # a number of thousands of digits
                yield BrokenRecord(f"not valid JSON: {error}", f"{name}:{number}")


def _read_text(name: str, text: str, next_chat: re.Pattern[str]) -> Iterator[Record]:
    start, line, counted = 0, 1, 0
    for gap in [*next_chat.finditer(text), None]:
        end = gap.start() if gap else len(text)
        if text[start:end].strip():
            begin = start + len(text[start:end]) - len(text[start:end].lstrip())
            line, counted = line + text.count("\n", counted, begin), begin
            yield Record(text[start:end], f"{name}:{line}")
        start = gap.end() if gap else end


def _read_table(name: str, stream: TextIO, delimiter: str) -> Iterator[Record | BrokenRecord]:
    csv.field_size_limit(MAX_RECORD_CHARS)
    reader = csv.DictReader(stream, delimiter=delimiter, strict=True)
    line = 1
    try:
        if not reader.fieldnames:
            raise InputError(f"{name}: empty file")
        line = reader.line_num + 1
        for row in reader:
            if None in row or None in row.values():
                yield BrokenRecord(f"not {len(reader.fieldnames)} columns, as the first line has", f"{name}:{line}")
            else:
                yield Record(row, f"{name}:{line}")
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{name}:{line}: not valid CSV: {error}") from error


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _read_parquet(name: str, raw: BinaryIO) -> Iterator[Record]:
    number = 0
    try:
        for batch in pq.ParquetFile(raw).iter_batches(batch_size=64):
            for row in batch.to_pylist():
                number += 1
                # Dates and the like become texts: they are facts of a record, never chats.
                yield Record(json.loads(json.dumps(row, default=_as_text)), f"{name}:{number}")
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name}:{number + 1}: not valid Parquet: {error}") from error
    if not number:
        raise InputError(f"{name}: empty file")
