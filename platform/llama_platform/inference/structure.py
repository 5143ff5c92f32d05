"""The structure that an answer must have: JSON, JSON of a schema, a regular expression, or one of some texts.

Grammars are llguidance's, which both engines keep to: a schema that it cannot keep is refused rather than half kept.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from llama_platform.errors import InputError

MAX_CHARS = 100_000
"""Of a schema or an expression; a larger one is refused."""
MAX_CHOICES = 1000
COMPACT = {"whitespace_flexible": False}
"""JSON with one blank behind colons and commas: a small model would go on with blanks until its tokens are used up."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What an answer must be, as a text, so that it can be compared, cached and sent."""

    kind: Literal["json", "regex", "choice"]
    value: str
    """A JSON schema, a regular expression in Rust's syntax, or a JSON list of texts."""

    def parsed(self) -> Any:
        """Return the schema or the texts."""
        return json.loads(self.value)


def json_schema(schema: Any) -> Structure:
    """Return the structure of answers that are valid under a schema."""
    return Structure("json", json.dumps(schema, ensure_ascii=False))


ANY_OBJECT = json_schema({"type": "object"})
"""Any JSON object."""


def choice(texts: list[str]) -> Structure:
    """Return the structure of answers that are one of some texts."""
    return Structure("choice", json.dumps(texts, ensure_ascii=False))


@lru_cache(maxsize=512)
def grammar_of(structure: Structure) -> str:
    """Return the grammar, as llguidance writes it.

    Raises:
        InputError: it cannot be kept, with the reason and, for a schema, the keys that are not known.
    """
    from llguidance import LLMatcher

    if len(structure.value) > MAX_CHARS:
        raise InputError(f"{structure.kind}: {len(structure.value):,} characters are more than {MAX_CHARS:,}")
    try:
        if structure.kind == "json":
            grammar = LLMatcher.grammar_from_json_schema(structure.value, overrides=COMPACT)  # type: ignore[arg-type]
        elif structure.kind == "regex":
            grammar = LLMatcher.grammar_from_regex(structure.value)
        else:
            texts = structure.parsed()
            if not texts or len(texts) > MAX_CHOICES or not all(isinstance(text, str) and text for text in texts):
                raise InputError(f"choice: 1 to {MAX_CHOICES} texts, none of them empty")
            grammar = LLMatcher.grammar_from_regex("|".join(map(re.escape, texts)))
    except ValueError as error:
        raise InputError(f"{structure.kind}: {error}") from error
    if problem := LLMatcher.validate_grammar(grammar):
        told = [line.removeprefix("error: ") for line in problem.splitlines() if line.startswith("error: ")]
        raise InputError(f"{structure.kind}: cannot be kept: {(told or problem.splitlines())[0]}")
    return str(grammar)
