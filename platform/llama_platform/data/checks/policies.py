"""Policies: what becomes of each kind of finding, and the bounds that chats must keep."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from llama_platform.config import Config

Action = Literal["fail", "drop", "fix", "warn"]
FailDrop = Literal["fail", "drop"]
FailDropFix = Literal["fail", "drop", "fix"]
FailDropWarn = Literal["fail", "drop", "warn"]


class Policies(Config):
    """What becomes of each kind of finding."""

    malformed: FailDrop = "fail"
    """Not JSON, or no chat of the file's format."""
    unread_file: Literal["fail", "warn"] = "warn"
    """A file of a folder that holds no chats, or is of a kind that is not read."""
    unread: FailDropWarn = "warn"
    """A record or turn holds something that is not trained on, such as a list of `tools` beside a pair."""
    unread_keys: FailDropWarn = "fail"
    """A record or turn has a key that is not known, with a text or a label, such as `reasoning_content` or `label`."""
    media: FailDropWarn = "fail"
    """Pictures, sound or film belong to the chat; only their placeholders in the text would be trained on."""
    empty_lines: Literal["fail", "warn"] = "warn"
    """Exchanges of a tagged text file with an empty line between them, which may be one chat or several."""
    role_order: FailDropFix = "fail"
    """Turns out of order; `fix` joins neighbours of one role, moves system turns to the front, and removes answers
    before the first question."""
    empty_turn: FailDropFix = "fail"
    """A turn without text; `fix` removes its exchange."""
    unanswered: FailDropFix = "fix"
    """The last turn is the user's; `fix` removes it."""
    untrainable: FailDrop = "drop"
    """No token would count in the loss."""
    too_long: FailDropFix = "fix"
    """Over `max_tokens`; `fix` removes whole exchanges from the end, and drops what has only one."""
    encoding: Action = "fail"
    """Bytes that are not UTF-8, U+FFFD or half a character; `fix` removes them."""
    mojibake: Action = "warn"
    """Text that was decoded as another encoding, such as `donâ€™t`; `fix` repairs it."""
    control_characters: Action = "fix"
    """Control, zero-width and direction characters; `fix` removes them."""
    line_ends: Action = "fix"
    """Line ends of two characters, `\\r\\n`; `fix` writes one."""
    frame: Action = "warn"
    """Texts that look like the frame of a turn: `### Assistant:`, `[INST]`, `</s>`; `fix` replaces their signs."""
    email: Action = "warn"
    """`fix` writes `[email]`."""
    phone: Action = "warn"
    """`fix` writes `[phone]`."""
    secret: Action = "warn"  # noqa: S105 - a policy
    """Keys, tokens and passwords in URLs; `fix` writes `[secret]`."""
    quality: FailDropWarn = "drop"
    """Below a bound of `quality`."""
    duplicate: FailDropWarn = "drop"
    """The same chat was read before."""
    near_duplicate: FailDropWarn = "warn"
    """Nearly the same chat was read before."""
    leakage: Action = "fix"
    """A held-out chat is nearly one that is trained on; `fix` moves it to the training side, `drop` leaves it out."""
    known_answers: Literal["fail", "warn"] = "warn"
    """Every answer of a held-out chat stands word for word in chats that are trained on: its loss says how well they
    are remembered, not what was learned."""


class QualityFilters(Config):
    """Bounds that a chat must keep; those that are not set filter nothing."""

    min_turns: Annotated[int, Field(ge=1)] = 1
    """User and assistant turns."""
    max_turns: Annotated[int, Field(ge=2)] | None = None
    """User and assistant turns."""
    min_answer_words: Annotated[int, Field(ge=0)] = 0
    """Words of the shortest answer."""
    max_answer_words: Annotated[int, Field(ge=1)] | None = None
    """Words of the longest answer."""
    max_repetition: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of an answer's word triples that stood in it before."""
    max_symbols: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of an answer's characters that are neither letters, digits nor spaces."""
    refused_patterns: tuple[str, ...] = ()
    """Regular expressions; a chat with an answer that matches one is refused."""

    @field_validator("refused_patterns")
    @classmethod
    def _compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return patterns
