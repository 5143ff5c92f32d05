"""Personal data and secrets in texts: e-mail addresses, phone numbers, and what looks like a key."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llama_platform.safety.secret_patterns import SECRETS

PersonalKind = Literal["email", "phone", "secret"]
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")
# Ten digits as North Americans write them, also where the area code is not given out: people invent numbers, too.
_TEN_DIGITS = re.compile(r"(?<![\w-])(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])")
_DIGITS_OF_A_PHONE = 7


@dataclass(frozen=True, slots=True)
class PersonalData:
    """A place in a text."""

    kind: PersonalKind
    start: int
    end: int


def find_personal_data(text: str, region: str, phones: bool = True) -> list[PersonalData]:
    """Return what looks like personal data, in order and without overlaps.

    Phone numbers are recognised by Google's libphonenumber, secrets by the forms of `secret_patterns`.

    Args:
        text: any.
        region: two letters; the country whose phone numbers are written without a country code.
        phones: whether phone numbers are looked for, which needs the extra `data`.
    """
    found: list[PersonalData] = []
    for place in sorted(_places(text, region, phones), key=lambda p: (p.start, -p.end)):
        if not found or place.start >= found[-1].end:
            found.append(place)
    return found


def redact(text: str, places: list[PersonalData]) -> str:
    """Return `text` with `[email]`, `[phone]` or `[secret]` in these places."""
    for place in reversed(places):
        text = f"{text[: place.start]}[{place.kind}]{text[place.end :]}"
    return text


def _places(text: str, region: str, phones: bool) -> Iterator[PersonalData]:
    if "@" in text:
        yield from (PersonalData("email", match.start(), match.end()) for match in _EMAIL.finditer(text))
    if phones and sum(map(str.isdigit, text)) >= _DIGITS_OF_A_PHONE:
        import phonenumbers

        for number in phonenumbers.PhoneNumberMatcher(text, region):
            yield PersonalData("phone", number.start, number.end)
        yield from (PersonalData("phone", match.start(), match.end()) for match in _TEN_DIGITS.finditer(text))
    for pattern in SECRETS.values():
        yield from (PersonalData("secret", match.start(), match.end()) for match in pattern.finditer(text))
