"""Formats: chats out of records in the form of ShareGPT, OpenAI messages, Alpaca, pairs or tagged text.

The format of a file is detected from its first record.
"""

from collections.abc import Mapping
from typing import Any, Literal

from llama_platform.data.records import TAG, Record
from llama_platform.errors import InputError
from llama_platform.models.prompt import Message, Role

FormatName = Literal["sharegpt", "messages", "alpaca", "pairs", "text"]
FORMATS: tuple[FormatName, ...] = ("sharegpt", "messages", "alpaca", "pairs", "text")
PAIR_KEYS = (("input", "output"), ("prompt", "completion"), ("prompt", "response"), ("question", "answer"))
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
    if isinstance(value.get("text"), str) and TAG.search(value["text"]):
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


def _parse_tagged(text: str) -> list[Message]:
    tags = list(TAG.finditer(text))
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
    return Message(role, content, _trained(turn, number))


def _trained(turn: dict[str, Any], number: int) -> bool | None:
    """Return what `train`, or OpenAI's `weight`, says of the turn's place in the loss; None where they are absent."""
    for key in ("train", "weight"):
        if turn.get(key) is not None:
            if turn[key] not in (0, 1, False, True):
                raise InputError(f"turn {number}: '{key}' is {turn[key]!r}, not true or false")
            return bool(turn[key])
    return None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"record is a {type(value).__name__}, not an object")
    return value


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise InputError(f"'{key}' is {'missing' if value is None else type(value).__name__}, not text")
    return value
