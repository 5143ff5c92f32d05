"""Formats: chats out of ShareGPT, OpenAI messages, Alpaca, pairs and tagged text, with file and line.

Files are JSON lists, JSON lines or plain text. The format of a file is detected from its first record.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llama_platform.errors import InputError
from llama_platform.models.prompt import Message, Role

FormatName = Literal["sharegpt", "messages", "alpaca", "pairs", "text"]
FORMATS: tuple[FormatName, ...] = ("sharegpt", "messages", "alpaca", "pairs", "text")
PAIR_KEYS = (("input", "output"), ("prompt", "completion"), ("prompt", "response"), ("question", "answer"))
CHAT_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson", ".txt"})
ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
_SPACE = re.compile(r"\s*")
_TAG = re.compile(r"###\s*(Human|User|Assistant|System)\s*:", re.IGNORECASE)
_NEXT_CHAT = re.compile(r"\n[ \t]*\n\s*(?=###\s*(?:Human|User|System)\s*:)", re.IGNORECASE)


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


def list_chat_files(sources: Sequence[str]) -> list[Path]:
    """Return the files that `sources` name; folders stand for their chat files, sorted.

    Raises:
        InputError: a source does not exist, or a folder holds no chat files.
    """
    files: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_file():
            files.append(path)
        elif path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in CHAT_SUFFIXES and p.is_file())
            if not found:
                raise InputError(f"{source}: no {', '.join(sorted(CHAT_SUFFIXES))} files in this folder")
            files += found
        else:
            raise InputError(f"{source}: no such file or folder")
    if not files:
        raise InputError("data.sources: empty; name at least one file or folder with chats")
    return files


def read_records(path: Path) -> Iterator[Record | BrokenRecord]:
    """Yield the records of a file in order; a broken one of JSON lines comes as BrokenRecord.

    Raises:
        InputError: the file is empty, not UTF-8, of no known kind, or a JSON list with a syntax error, after
            which no record can be told from the next.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 text (byte {error.start}); convert the file to UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    start = text.lstrip()[:1]
    if not start:
        raise InputError(f"{path}: empty file")
    if start == "[":
        yield from _read_list(path, text)
    elif start == "{":
        yield from _read_lines(path, text)
    elif _TAG.search(text):
        yield from _read_text(path, text)
    else:
        raise InputError(
            f"{path}:1: unknown format: neither a JSON list, nor JSON lines, nor text with '### Human:' tags"
        )


def detect_format(record: Record) -> FormatName:
    """Return the format of a record, judged by its keys.

    Raises:
        InputError: none fits; the text names the keys that were found.
    """
    value = record.value
    if isinstance(value, str):
        return "text"
    if not isinstance(value, dict):
        raise InputError(f"{record.where}: unknown format: a record is a {type(value).__name__}, not an object")
    if isinstance(value.get("conversations"), list):
        return "sharegpt"
    if isinstance(value.get("messages"), list):
        return "messages"
    if "instruction" in value and "output" in value:
        return "alpaca"
    if any(question in value and answer in value for question, answer in PAIR_KEYS):
        return "pairs"
    if isinstance(value.get("text"), str) and _TAG.search(value["text"]):
        return "text"
    keys = ", ".join(map(repr, list(value)[:8])) or "no keys"
    raise InputError(f"{record.where}: unknown format: a record with {keys}; known formats: {', '.join(FORMATS)}")


def parse_chat(value: Any, form: FormatName) -> list[Message]:
    """Return the messages of a record.

    Raises:
        InputError: the record is not of this form, or a role is not known. The text names no file.
    """
    if form == "text":
        return _parse_tagged(value if isinstance(value, str) else _text(_object(value), "text"))
    record = _object(value)
    if form in ("sharegpt", "messages"):
        turns = record.get("conversations" if form == "sharegpt" else "messages")
        if not isinstance(turns, list) or not turns:
            raise InputError(f"no list of turns under '{'conversations' if form == 'sharegpt' else 'messages'}'")
        return [_parse_turn(turn, number) for number, turn in enumerate(turns, 1)]
    if form == "alpaca":
        extra = _text(record, "input") if record.get("input") else ""
        question = "\n\n".join(part for part in (_text(record, "instruction"), extra) if part.strip())
        answer = _text(record, "output")
    else:
        keys = next((pair for pair in PAIR_KEYS if pair[0] in record and pair[1] in record), PAIR_KEYS[0])
        question, answer = _text(record, keys[0]), _text(record, keys[1])
    system = [Message("system", record["system"])] if isinstance(record.get("system"), str) else []
    return [*(s for s in system if s.content.strip()), Message("user", question), Message("assistant", answer)]


def _read_list(path: Path, text: str) -> Iterator[Record]:
    decoder = json.JSONDecoder()
    position, line, counted = _SPACE.match(text, text.index("[") + 1).end(), 1, 0  # type: ignore[union-attr]
    first = True
    while text[position : position + 1] != "]":
        if not first:
            if text[position : position + 1] not in (",", ""):
                raise InputError(f"{path}:{line}: not valid JSON: a comma is missing after this record")
            position = _SPACE.match(text, position + 1).end()  # type: ignore[union-attr]
        first = False
        line, counted = line + text.count("\n", counted, position), position
        if position >= len(text):
            raise InputError(f"{path}:{line}: not valid JSON: the list is not closed; is the file cut off?")
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{error.lineno}: not valid JSON: {error.msg} (column {error.colno})") from error
        except RecursionError as error:
            raise InputError(f"{path}:{line}: not valid JSON: nested too deeply") from error
        yield Record(value, f"{path}:{line}")
        position = _SPACE.match(text, position).end()  # type: ignore[union-attr]
    if text[position + 1 :].strip():
        line += text.count("\n", counted, position)
        raise InputError(f"{path}:{line}: not valid JSON: more text after the end of the list")


def _read_lines(path: Path, text: str) -> Iterator[Record | BrokenRecord]:
    try:
        whole, end = json.JSONDecoder().raw_decode(text, text.index("{"))
    except (json.JSONDecodeError, RecursionError):
        end = 0
    if end and not text[end:].strip():
        yield Record(whole, f"{path}:1")
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield Record(json.loads(line), f"{path}:{number}")
            except json.JSONDecodeError as error:
                yield BrokenRecord(f"not valid JSON: {error.msg} (column {error.colno})", f"{path}:{number}")
            except RecursionError:
                yield BrokenRecord("not valid JSON: nested too deeply", f"{path}:{number}")


def _read_text(path: Path, text: str) -> Iterator[Record]:
    start = 0
    for gap in [*_NEXT_CHAT.finditer(text), None]:
        end = gap.start() if gap else len(text)
        if text[start:end].strip():
            lead = len(text[start:end]) - len(text[start:end].lstrip())
            yield Record(text[start:end], f"{path}:{text.count(chr(10), 0, start + lead) + 1}")
        start = gap.end() if gap else end


def _parse_tagged(text: str) -> list[Message]:
    tags = list(_TAG.finditer(text))
    if not tags:
        raise InputError("no '### Human:' or '### Assistant:' tags")
    if text[: tags[0].start()].strip():
        raise InputError(f"text before the first tag: {text.strip()[:40]!r}")
    ends = [tag.start() for tag in tags[1:]] + [len(text)]
    return [Message(ROLES[tag[1].lower()], text[tag.end() : end].strip()) for tag, end in zip(tags, ends, strict=True)]


def _parse_turn(turn: Any, number: int) -> Message:
    if not isinstance(turn, dict):
        raise InputError(f"turn {number} is a {type(turn).__name__}, not an object")
    name = turn.get("from", turn.get("role"))
    role = ROLES.get(str(name).lower())
    if role is None:
        raise InputError(f"turn {number}: unknown role {name!r}; known: {', '.join(ROLES)}")
    content = turn.get("value", turn.get("content"))
    if isinstance(content, list):  # OpenAI's list of parts
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise InputError(f"turn {number}: only text parts can be trained on")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise InputError(f"turn {number}: content is {type(content).__name__}, not text")
    return Message(role, content)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"record is a {type(value).__name__}, not an object")
    return value


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise InputError(f"'{key}' is {'missing' if value is None else type(value).__name__}, not text")
    return value
