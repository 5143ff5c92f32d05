"""Formats: chats out of records in the form of ShareGPT, OpenAI messages, Alpaca, pairs or tagged text.

What a record says beside its chat is either known to be nothing that is trained on, or told by `unread_content`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from llama_platform.data.reading.records import TAG, Record
from llama_platform.data.reading.tool_turns import (
    CALL_ROLES,
    LISTS,
    RESULT_ROLES,
    TURN_KEYS,
    name_results,
    read_call_turn,
    read_calls,
    read_tools,
)
from llama_platform.errors import InputError
from llama_platform.models.prompt import Message, Role
from llama_platform.models.tool_chat import ToolTurn, plain_chat

FormatName = Literal["preferences", "sharegpt", "messages", "alpaca", "pairs", "text"]
FORMATS: tuple[FormatName, ...] = ("preferences", "sharegpt", "messages", "alpaca", "pairs", "text")
PAIR_KEYS = (("input", "output"), ("prompt", "completion"), ("prompt", "response"), ("question", "answer"))
ALPACA_ANSWERS = ("output", "response")
SYSTEM_KEYS = ("system", "system_prompt")
MEDIA_KEYS = frozenset({"image", "images", "video", "videos", "audio", "audios"})
FACT_KEYS = frozenset(
    """category conversation_id created created_at dataset date difficulty domain hash id idx index lang language
    license metadata model name num_turns origin rating score source split subset tag tags task timestamp title topic
    type uid url user_id uuid""".split()
)
"""Facts of a record or turn, which are never trained on."""
_CHAT_KEYS: Mapping[str, frozenset[str]] = {
    "preferences": frozenset({"prompt", "question", "messages", "chosen", "rejected", *SYSTEM_KEYS, *LISTS}),
    "sharegpt": frozenset({"conversations", *SYSTEM_KEYS, *LISTS}),
    "messages": frozenset({"messages", *SYSTEM_KEYS, *LISTS}),
    "alpaca": frozenset({"instruction", "input", "context", *ALPACA_ANSWERS, "history", *SYSTEM_KEYS}),
    "text": frozenset({"text"}),
}
PREFERENCE_LISTS = ("prompt", "question", "messages", "chosen", "rejected")
TOOL_KEYS = frozenset({"functions", "function_call", "tool_calls", "tool_choice", "tools"})
"""What a model may call, in lists or as JSON in a text; trained on where a format has a place for it."""
Unread = Literal["unread", "unread_keys", "media"]
LABEL_KEYS = frozenset({"chosen", "feedback", "label", "labels", "preference", "rejected", "thumbs", "votes"})
"""What a record says of the worth of its texts, in words or not."""
_TURN_KEYS = frozenset({"from", "role", "value", "content", "train", "weight", *TURN_KEYS})
_AFTER_TAG = re.compile(r"\A(?:(?:[ \t]*\n)+| )")
"""What parts a tag from its text; more spaces are indentation."""
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
    if "chosen" in value and "rejected" in value:
        return "preferences"
    if isinstance(value.get("conversations"), list):
        return "sharegpt"
    if isinstance(value.get("messages"), list):
        return "messages"
    if "instruction" in value and any(key in value for key in ALPACA_ANSWERS):
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
    if form == "preferences":
        return parse_preference(record)[0]
    if form in ("sharegpt", "messages"):
        turns = record.get("conversations" if form == "sharegpt" else "messages")
        if not isinstance(turns, list) or not turns:
            raise InputError(f"no list of turns under '{'conversations' if form == 'sharegpt' else 'messages'}'")
        read = name_results([_parse_turn(turn, number) for number, turn in enumerate(turns, 1)], turns)
        before = [ToolTurn("system", message.content) for message in _system(record)]
        return plain_chat([*before, *read], read_tools(record))
    if form == "alpaca":
        extra = [_text(record, key) for key in ("input", "context") if record.get(key)]
        question = "\n\n".join(part for part in (_text(record, "instruction"), *extra) if part.strip())
        answer = _text(record, next((key for key in ALPACA_ANSWERS if key in record), ALPACA_ANSWERS[0]))
        turns = [Message("user", question), Message("assistant", answer)]
        return [*_system(record), *_history(record), *turns]
    question_key, answer_key = _pair_keys(record)
    parts = [_text(record, "context") if record.get("context") else "", _text(record, question_key)]
    question = "\n\n".join(part for part in parts if part.strip())
    return [*_system(record), Message("user", question), Message("assistant", _text(record, answer_key))]


def parse_preference(value: Any) -> tuple[list[Message], str]:
    """Return (chat that ends with the chosen answer, the rejected answer) of a record with two answers.

    `chosen` and `rejected` are texts, or turns; the turns before them stand under `prompt`, `question` or `messages`,
    or at the beginning of both.

    Raises:
        InputError: there are no two answers to one chat.
    """
    record = _object(value)
    before = [ToolTurn("system", message.content) for message in _system(record)]
    key = next((key for key in ("prompt", "question", "messages") if record.get(key)), None)
    asked = [] if key is None else _turns(record[key], "user", key)
    chosen, rejected = (_turns(record.get(key), "assistant", key) for key in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise InputError("'chosen' and 'rejected' are answers to different chats")
    if {chosen[-1].role, rejected[-1].role} != {"assistant"} or rejected[-1].calls:
        raise InputError("'chosen' and 'rejected' must end with an answer")
    repeated = len(asked) if chosen[: len(asked)] == asked else 0
    return plain_chat([*before, *asked, *chosen[repeated:]], read_tools(record)), rejected[-1].content


def _turns(value: Any, role: Literal["user", "assistant"], key: str) -> list[ToolTurn]:
    """Return the turns of a text or of a list."""
    if isinstance(value, str):
        return [ToolTurn(role, value)]
    if not isinstance(value, list) or not value:
        raise InputError(f"'{key}' is neither a text nor a list of turns")
    return name_results([_parse_turn(turn, number) for number, turn in enumerate(value, 1)], value)


def unread_content(value: Any, form: FormatName) -> Iterator[tuple[Unread, str]]:
    """Yield what a record holds beside the messages that `parse_chat` makes of it.

    Yields:
        (kind, problem): `media` for pictures, sound and film, whose placeholders stand in the text; `unread_keys` for
        keys that are not known and carry text or a label; `unread` for everything else that has a value and is not
        one of FACT_KEYS, such as lists of tools.
    """
    if not isinstance(value, dict):
        return
    known = _CHAT_KEYS.get(form) or frozenset({*_pair_keys(value), "context", *SYSTEM_KEYS})
    yield from _unread_keys(value, known, "")
    lists = {"sharegpt": ("conversations",), "messages": ("messages",), "preferences": PREFERENCE_LISTS}
    for key in lists.get(form, ()):
        turns = value.get(key)
        for number, turn in enumerate(turns if isinstance(turns, list) else [], 1):
            if isinstance(turn, dict):
                where = f"'{key}', turn {number}: " if form == "preferences" else f"turn {number}: "
                yield from _unread_keys(turn, _TURN_KEYS, where)


def _unread_keys(value: Mapping[str, Any], known: frozenset[str], where: str) -> Iterator[tuple[Unread, str]]:
    for key, content in value.items():
        if key in MEDIA_KEYS and content:
            yield "media", f"{where}'{key}' is not trained on, and a Llama cannot see what the text speaks of"
        elif key not in known and key not in FACT_KEYS and content not in (None, "", [], {}):
            text = isinstance(content, str) and content.strip() != "" and key not in TOOL_KEYS
            telling = key in LABEL_KEYS or text
            yield ("unread_keys" if telling else "unread"), f"{where}'{key}' is not trained on"


def _pair_keys(record: Mapping[str, Any]) -> tuple[str, str]:
    return next((pair for pair in PAIR_KEYS if pair[0] in record and pair[1] in record), PAIR_KEYS[0])


def _system(record: Mapping[str, Any]) -> list[Message]:
    """Return the system turn that stands beside the others of a record."""
    found = [record[key] for key in SYSTEM_KEYS if record.get(key) not in (None, "")]
    if not all(isinstance(text, str) for text in found):
        raise InputError(f"'system' is {type(found[0]).__name__}, not text")
    return [Message("system", text) for text in found if text.strip()]


def _history(record: Mapping[str, Any]) -> Iterator[Message]:
    """Yield the exchanges that came before, as `[[question, answer], …]`."""
    history = record.get("history") or []
    if not isinstance(history, list):
        raise InputError(f"'history' is {type(history).__name__}, not a list")
    for number, exchange in enumerate(history, 1):
        if not (isinstance(exchange, list) and len(exchange) == 2 and all(isinstance(text, str) for text in exchange)):
            raise InputError(f"'history': entry {number} is no list of a question and an answer")
        yield Message("user", exchange[0])
        yield Message("assistant", exchange[1])


def _parse_tagged(text: str) -> list[Message]:
    tags = list(TAG.finditer(text))
    if not tags:
        raise InputError("no '### Human:' or '### Assistant:' tags")
    if text[: tags[0].start()].strip():
        raise InputError(f"text before the first tag: {text.strip()[:40]!r}")
    ends = [tag.start() for tag in tags[1:]] + [len(text)]
    texts = [_AFTER_TAG.sub("", text[tag.end() : end]).rstrip() for tag, end in zip(tags, ends, strict=True)]
    return [Message(ROLES[tag[1].lower()], content) for tag, content in zip(tags, texts, strict=True)]


def _parse_turn(turn: Any, number: int) -> ToolTurn:
    if not isinstance(turn, dict):
        raise InputError(f"turn {number} is a {type(turn).__name__}, not an object")
    name = turn.get("from", turn.get("role"))
    kind = str(name).lower()
    role = ROLES.get(kind)
    if role is None and kind not in RESULT_ROLES | CALL_ROLES:
        known = ", ".join([*ROLES, *sorted(RESULT_ROLES | CALL_ROLES)])
        raise InputError(f"turn {number}: unknown role {name!r}; known: {known}")
    calls = read_calls(turn, number)
    content = turn.get("value", turn.get("content"))
    if isinstance(content, list):  # OpenAI's list of parts
        for part in content:
            form = part.get("type", "text") if isinstance(part, dict) else type(part).__name__
            if form != "text" or not isinstance(part.get("text"), str):
                raise InputError(f"turn {number}: only text parts can be trained on, not '{form}'")
        content = "".join(part["text"] for part in content)
    if content is None and calls:
        content = ""
    if isinstance(content, dict) and role is None:  # what a function returned, or its call, not yet as text
        content = json.dumps(content, ensure_ascii=False)
    if not isinstance(content, str):
        raise InputError(f"turn {number}: content is {type(content).__name__}, not text")
    if kind in CALL_ROLES:
        return ToolTurn("assistant", "", read_call_turn(content, number), trained=_trained(turn, number))
    return ToolTurn(role or "tool", content, calls, trained=_trained(turn, number))


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
