"""Document: one readable text, and what is known of it."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import date, datetime

from llama_platform.errors import InputError
from rag.documents.blocks import Block

MAX_ID_CHARS = 512
MAX_REASON_CHARS = 300
MAX_TAGS = 50
MAX_TAG_CHARS = 100
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DAY = re.compile(r"\d{4}[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-]\d{4}|\d{8}|[A-Za-z]{3,}")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a document says of itself."""

    title: str | None = None
    tags: tuple[str, ...] = ()
    date: str | None = None
    """`YYYY-MM-DD`"""


@dataclass(frozen=True, slots=True)
class Document:
    """One readable text."""

    id: str
    """Path relative to the source folder, `/`-separated; of a row in a table, `path#row`."""
    text: str
    sha256: str
    """Of what it was read from."""
    facts: Facts = Facts()
    blocks: tuple[Block, ...] = ()
    """Parts of the text, in order."""
    notes: tuple[str, ...] = ()
    """What of its source was not understood or is not there, such as pages without text."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """What is no document, and why."""

    id: str
    reason: str
    fatal: bool = False
    """Whether it may be one all the same, and could only not be read right now: an index must not be made without."""

    def __post_init__(self) -> None:
        """Bound what may be anything: parts of files are quoted in reasons."""
        object.__setattr__(self, "id", clean_text(self.id)[:MAX_ID_CHARS])
        object.__setattr__(self, "reason", " ".join(clean_text(self.reason).split())[:MAX_REASON_CHARS])


def check_document_id(text: str) -> str:
    """Return `text` if it may name a document.

    Raises:
        InputError: it is empty, too long, absolute, or has empty, `.` or `..` parts or control characters.
    """
    parts = text.split("/")
    allowed = text.isprintable() and "\\" not in text and not any(part.strip() in ("", ".", "..") for part in parts)
    if not allowed or len(text) > MAX_ID_CHARS:
        raise InputError(
            f"id: {text[:80]!r} cannot name a document: use at most {MAX_ID_CHARS} printable characters, "
            "separated by single slashes, without '..'"
        )
    return text


def clean_text(text: str) -> str:
    """Replace control, invisible and half characters by spaces, one for one, so that spans stay true."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        " " if unicodedata.category(char) in ("Cc", "Cf", "Co", "Cs") and char not in "\n\t" else char for char in text
    )


def make_facts(title: object = None, tags: object = None, day: object = None, notes: list[str] | None = None) -> Facts:
    """Return facts out of what a format holds, which may be anything; what makes no sense is left out.

    Args:
        title: a text.
        tags: a list of texts, or one text with commas or semicolons.
        day: a date, or a text that `parse_date` reads.
        notes: gets a date that is none.
    """
    name = " ".join(clean_text(title).split())[:300] if isinstance(title, str) else ""
    found = re.split(r"[,;]", tags) if isinstance(tags, str) else tags if isinstance(tags, (list, tuple)) else []
    texts = [" ".join(clean_text(str(tag)).split())[:MAX_TAG_CHARS] for tag in found if isinstance(tag, (str, int))]
    parsed = parse_date(day)
    if parsed is None and day not in (None, "") and notes is not None:
        notes.append(f"its date {str(day)[:40]!r} is none, or may be two: write YYYY-MM-DD")
    return Facts(name or None, tuple(dict.fromkeys(tag for tag in texts if tag))[:MAX_TAGS], parsed)


def parse_date(value: object) -> str | None:
    """Return `YYYY-MM-DD` of a date, or of a text that names one day, such as `5 March 2024`; None of anything else."""
    from dateutil import parser

    if isinstance(value, date):
        return value.isoformat()[:10]
    text = value.strip()[:40] if isinstance(value, str) else ""
    try:
        if found := _ISO_DATE.match(text):
            return date.fromisoformat(found[0]).isoformat()
        if not _DAY.search(text):  # dateutil takes `10` and `March` for dates, too
            return None
        # Read both ways round, and with two days to fill gaps from: what names one day is the same each time.
        days = {
            parser.parse(text, dayfirst=first, default=datetime(year, month, day)).date()
            for first in (False, True)
            for year, month, day in ((2001, 1, 1), (2002, 2, 2))
        }
    except (ValueError, OverflowError, TypeError):
        return None
    return days.pop().isoformat() if len(days) == 1 else None
