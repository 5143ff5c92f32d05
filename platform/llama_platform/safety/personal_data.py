"""Personal data and secrets in texts: e-mail addresses, phone numbers, and what looks like a key."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import phonenumbers

PersonalKind = Literal["email", "phone", "secret"]
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")
# Ten digits as North Americans write them, also where the area code is not given out: people invent numbers, too.
_TEN_DIGITS = re.compile(r"(?<![\w-])(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])")
# Prefixed keys beside those that detect-secrets knows.
_PREFIXED_KEY = re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{20,}|\bhf_[A-Za-z0-9]{30,}|\bAIza[A-Za-z0-9_-]{35}")
_SECRET_DETECTORS = (
    "artifactory.ArtifactoryDetector aws.AWSKeyDetector azure_storage_key.AzureStorageKeyDetector "
    "basic_auth.BasicAuthDetector github_token.GitHubTokenDetector gitlab_token.GitLabTokenDetector "
    "jwt.JwtTokenDetector mailchimp.MailchimpDetector npm.NpmDetector openai.OpenAIDetector "
    "private_key.PrivateKeyDetector pypi_token.PypiTokenDetector sendgrid.SendGridDetector slack.SlackDetector "
    "square_oauth.SquareOAuthDetector stripe.StripeDetector telegram_token.TelegramBotTokenDetector "
    "twilio.TwilioKeyDetector"
).split()
_DIGITS_OF_A_PHONE = 7


@dataclass(frozen=True, slots=True)
class PersonalData:
    """A place in a text."""

    kind: PersonalKind
    start: int
    end: int


def find_personal_data(text: str, region: str) -> list[PersonalData]:
    """Return what looks like personal data, in order and without overlaps.

    Phone numbers are recognised by Google's libphonenumber, keys by Yelp's detect-secrets.

    Args:
        text: any.
        region: two letters; the country whose phone numbers are written without a country code.
    """
    found: list[PersonalData] = []
    for place in sorted(_places(text, region), key=lambda p: (p.start, -p.end)):
        if not found or place.start >= found[-1].end:
            found.append(place)
    return found


def redact(text: str, places: list[PersonalData]) -> str:
    """Return `text` with `[email]`, `[phone]` or `[secret]` in these places."""
    for place in reversed(places):
        text = f"{text[: place.start]}[{place.kind}]{text[place.end :]}"
    return text


def _places(text: str, region: str) -> Iterator[PersonalData]:
    if "@" in text:
        yield from (PersonalData("email", match.start(), match.end()) for match in _EMAIL.finditer(text))
    if sum(map(str.isdigit, text)) >= _DIGITS_OF_A_PHONE:
        for number in phonenumbers.PhoneNumberMatcher(text, region):
            yield PersonalData("phone", number.start, number.end)
        yield from (PersonalData("phone", match.start(), match.end()) for match in _TEN_DIGITS.finditer(text))
    for match in _PREFIXED_KEY.finditer(text):
        yield PersonalData("secret", match.start(), match.end())
    for pattern in _secret_patterns():
        for match in pattern.finditer(text):
            yield PersonalData("secret", match.start(), match.end())


@lru_cache(maxsize=1)
def _secret_patterns() -> tuple["re.Pattern[str]", ...]:
    from importlib import import_module

    patterns: list[re.Pattern[str]] = []
    for name in _SECRET_DETECTORS:
        module, _, detector = name.rpartition(".")
        found: Any = getattr(import_module(f"detect_secrets.plugins.{module}"), detector)
        patterns += found.denylist
    return tuple(patterns)
