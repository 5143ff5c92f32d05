r"""Rules: what texts must not hold, where that counts, and what happens then. One YAML file holds them.

    rules:
      - name: project-names
        terms: [Blue Heron, Northwind]
        places: [input, output]
        action: redact
      - name: card-numbers
        pattern: '\b(?:\d{4}[ -]?){3}\d{4}\b'
        places: [input, sources, output]
        action: redact
      - name: personal-data
        personal: [email, phone, secret]
        places: [output]
        action: redact
        tenants: [acme]
      - name: instructions-in-sources
        injection: true
        places: [sources]
        action: block

Patterns are RE2's, which take linear time whatever a text holds; those that change answers must have a longest match,
since a stream holds back as much of its text.
"""

import importlib.util
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import re2
from pydantic import Field, model_validator

from llama_platform.config import Config, load_config
from llama_platform.errors import ConfigError
from llama_platform.safety.personal_data import PersonalData, PersonalKind, find_personal_data

Place = Literal["input", "sources", "output"]
Action = Literal["block", "redact", "flag"]
MOST_CHARS = 500
"""Longest match of a pattern that changes answers."""
MOST_WORD_CHARS = 600
"""Of a word without its end, no more is held back for personal data."""
PHONE_CHARS = 32
INJECTION = (
    r"(?:ignore|disregard|forget)\s{1,3}(?:all\s{1,3})?(?:of\s{1,3})?(?:the\s{1,3}|your\s{1,3}|any\s{1,3})?"
    r"(?:previous|prior|above|earlier|preceding)\s{1,3}(?:instructions?|prompts?|rules|messages?|directions?)",
    r"(?:reveal|print|show|repeat|output)\s{1,3}(?:me\s{1,3})?(?:the|your)\s{1,3}(?:hidden\s{1,3}|full\s{1,3})?"
    r"(?:system\s{1,3}prompt|system\s{1,3}message|initial\s{1,3}instructions?)",
    r"(?:you\s{1,3}are|act)\s{1,3}(?:now\s{1,3})?(?:as\s{1,3})?(?:in\s{1,3})?(?:developer|DAN|jailbreak|unrestricted)"
    r"\s{1,3}mode",
    r"ignorier(?:e|en)?\s{1,3}(?:Sie\s{1,3})?(?:alle\s{1,3})?(?:vorherigen|bisherigen|obigen)\s{1,3}"
    r"(?:Anweisungen|Instruktionen)",
    r"new\s{1,3}(?:system\s{1,3})?instructions?\s{0,3}:",
)
"""What texts say that want to command the model that reads them."""


class Rule(Config):
    """One rule; exactly one of `terms`, `pattern`, `personal` and `injection` says what it finds."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
    """Stands in the place of what is redacted, in records, and in errors."""
    terms: tuple[Annotated[str, Field(min_length=2, max_length=200)], ...] = ()
    """Words or phrases, in any case; they begin and end with words."""
    pattern: str | None = None
    """A regular expression of RE2."""
    personal: tuple[PersonalKind, ...] = ()
    """Kinds of personal data, as the doctor of datasets finds them."""
    region: Annotated[str, Field(pattern="^[A-Z]{2}$")] = "US"
    """Country whose phone numbers are written without a country code."""
    injection: bool = False
    """Phrases that want to command the model."""
    places: tuple[Place, ...]
    """`input`: what is asked. `sources`: texts that are found for it. `output`: answers."""
    action: Action
    """`block` refuses the request, leaves out the source, ends the answer. `redact` writes `[name]` instead. `flag`
    only notes it."""
    tenants: tuple[str, ...] = ()
    """Whose requests; none for everybody's."""

    @model_validator(mode="after")
    def _finds_one_kind(self) -> "Rule":
        kinds = [bool(self.terms), self.pattern is not None, bool(self.personal), self.injection]
        if sum(kinds) != 1:
            raise ValueError("one of terms, pattern, personal and injection says what the rule finds")
        if not self.places:
            raise ValueError("places: at least one of input, sources, output")
        return self


class RulesConfig(Config):
    """Content of a file of rules."""

    rules: tuple[Rule, ...] = ()
    """In the order in which they are tried where several find the same."""


class Finder(Protocol):
    """Finds what one rule is about."""

    def first(self, text: str, start: int) -> tuple[int, int] | None:
        """Return (start, end) of the first match from `start` on; what stands before it counts as its surroundings."""
        ...

    def open_chars(self, text: str) -> int:
        """Return how many characters at the end of a text may begin a match that more text makes whole."""
        ...


@dataclass(frozen=True, slots=True)
class ScreenRule:
    """A rule, ready to be used."""

    name: str
    action: Action
    finder: Finder


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules of an application."""

    rules: tuple[tuple[Rule, Finder], ...] = ()

    @classmethod
    def read(cls, path: Path | None) -> "RuleSet":
        """Return the rules of a file; none without one.

        Raises:
            ConfigError: the file cannot be read, or a rule cannot be kept.
        """
        if path is None:
            return cls()
        found = []
        for rule in load_config(RulesConfig, path).rules:
            try:
                found.append((rule, _finder(rule)))
            except ConfigError as error:
                raise ConfigError(f"{path}: rule '{rule.name}': {error}") from error
        names = [rule.name for rule, _ in found]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ConfigError(f"{path}: rule '{min(twice)}' is there twice")
        return cls(tuple(found))

    def of(self, tenant: str, place: Place) -> tuple[ScreenRule, ...]:
        """Return the rules for a place and a tenant; the empty text is the tenant of requests without a key."""
        return tuple(
            ScreenRule(rule.name, rule.action, finder)
            for rule, finder in self.rules
            if place in rule.places and (not rule.tenants or tenant in rule.tenants)
        )


def plain_text(text: str) -> str:
    """Return a text without what hides words from rules: invisible characters, and letters in unusual forms."""
    shown = "".join(character for character in text if unicodedata.category(character) != "Cf")
    return unicodedata.normalize("NFKC", shown)


class PatternFinder:
    """Finds matches of an RE2 pattern."""

    def __init__(self, pattern: str, most_chars: int | None) -> None:
        """Compile `pattern`, whose matches have at most so many characters; None where nobody knows.

        Raises:
            ConfigError: it is none of RE2.
        """
        options = re2.Options()
        options.log_errors = False
        try:
            self._pattern: Any = re2.compile(pattern, options)
        except re2.error as error:
            reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
            raise ConfigError(f"pattern: {reason}; RE2 knows neither look-around nor references back") from error
        self._most_chars = most_chars

    def first(self, text: str, start: int) -> tuple[int, int] | None:
        """See Finder."""
        place = start
        while (match := self._pattern.search(text, place)) is not None:
            begin, end = match.span()
            if end > begin:
                return int(begin), int(end)
            place = end + 1  # an empty match is none
            if place > len(text):
                break
        return None

    def open_chars(self, text: str) -> int:
        """See Finder; one more than the longest match, for what ends a word."""
        return (self._most_chars or 0) + 1


class PersonalFinder:
    """Finds kinds of personal data."""

    def __init__(self, kinds: Sequence[PersonalKind], region: str) -> None:
        """Find `kinds`, phone numbers as in `region`.

        Raises:
            ConfigError: phone numbers are to be found, and the library that does is not installed.
        """
        if "phone" in kinds and importlib.util.find_spec("phonenumbers") is None:
            raise ConfigError(
                "personal: phone numbers are found by the extra `data`: pip install 'llama-platform[data]'"
            )
        self._kinds, self._region = frozenset(kinds), region

    def first(self, text: str, start: int) -> tuple[int, int] | None:
        """See Finder."""
        for place in _personal_data(text, self._region, "phone" in self._kinds):
            if place.kind in self._kinds and place.start >= start:
                return place.start, place.end
        return None

    def open_chars(self, text: str) -> int:
        """See Finder: the last word, and the digits and signs before it that may be a phone number's."""
        last = text[-MOST_WORD_CHARS:]
        word = len(last) - (max((last.rfind(space) for space in " \n\t"), default=-1) + 1)
        if "phone" not in self._kinds:
            return word
        tail = re.search(r"[\d\s()+./-]*$", text[-PHONE_CHARS - word :])
        return max(word, PHONE_CHARS if tail is not None and any(map(str.isdigit, tail[0])) else word)


@lru_cache(maxsize=4)
def _personal_data(text: str, region: str, phones: bool) -> tuple[PersonalData, ...]:
    """Return what is found in a text that is searched again behind each match."""
    return tuple(find_personal_data(text, region, phones))


def _finder(rule: Rule) -> Finder:
    if rule.personal:
        return PersonalFinder(rule.personal, rule.region)
    if rule.terms:
        words = [r"\s{1,3}".join(map(re2.escape, plain_text(term).split())) for term in rule.terms]
        pattern = (
            rf"(?i){_edge(rule.terms, 0)}(?:{'|'.join(sorted(words, key=len, reverse=True))}){_edge(rule.terms, -1)}"
        )
        return PatternFinder(pattern, max(len(term) + 2 * term.count(" ") for term in rule.terms))
    if rule.injection:
        return PatternFinder(f"(?i)(?:{'|'.join(INJECTION)})", 200)
    assert rule.pattern is not None
    found = PatternFinder(rule.pattern, None)
    if "output" in rule.places and rule.action != "flag":
        return PatternFinder(rule.pattern, _longest(rule.pattern))
    return found


def _edge(terms: Sequence[str], side: int) -> str:
    """Return the edge of a word, if all terms begin or end with a letter or digit."""
    return r"\b" if all(term.strip()[side].isascii() and term.strip()[side].isalnum() for term in terms) else ""


def _longest(pattern: str) -> int:
    """Return how many characters a match of a pattern has at most.

    Raises:
        ConfigError: there is no such number, or it is over the limit.
    """
    parse: Callable[[str], Any] = re._parser.parse  # type: ignore[attr-defined]
    try:
        longest = int(parse(pattern).getwidth()[1])
    except re.error as error:
        raise ConfigError(f"pattern: its longest match is not known: {error}") from error
    if longest > MOST_CHARS:
        raise ConfigError(
            f"pattern: a match may be longer than {MOST_CHARS} characters, and a stream would hold back as many; "
            "write {0,20} for * and {1,20} for +"
        )
    return longest
