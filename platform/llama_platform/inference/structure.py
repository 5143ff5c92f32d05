"""The structure that an answer must have: JSON, JSON of a schema, a regular expression, one of some texts, or calls.

Grammars are llguidance's, which both engines keep to: a schema that it cannot keep is refused rather than half kept.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from llama_platform.errors import InputError
from llama_platform.models.tools import CALL_BEGIN, CALL_END, Tool

MAX_CHARS = 100_000
"""Of a schema or an expression; a larger one is refused."""
MAX_CHOICES = 1000
COMPACT = {"whitespace_flexible": False}
"""JSON without blanks: a small model would go on with blanks until its tokens are used up."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What an answer must be, as a text, so that it can be compared, cached and sent."""

    kind: Literal["json", "regex", "choice", "tools"]
    value: str
    """A JSON schema, a regular expression in Rust's syntax, a JSON list of texts, or what `tool_calls` makes."""

    def parsed(self) -> Any:
        """Return what the JSON holds."""
        return json.loads(self.value)

    def begins_free(self) -> bool:
        """Return whether an answer may be any text until it calls a function."""
        if self.kind != "tools":
            return False
        asked = self.parsed()
        return not asked["required"] and asked["answer"] is None


def json_schema(schema: Any) -> Structure:
    """Return the structure of answers that are valid under a schema."""
    return Structure("json", json.dumps(schema, ensure_ascii=False))


ANY_OBJECT = json_schema({"type": "object"})
"""Any JSON object."""


def choice(texts: list[str]) -> Structure:
    """Return the structure of answers that are one of some texts."""
    return Structure("choice", json.dumps(texts, ensure_ascii=False))


def tool_calls(tools: Sequence[Tool], *, required: bool, several: bool, answer: Structure | None = None) -> Structure:
    """Return the structure of answers that call functions, in the form of `models.tools`.

    Args:
        tools: functions that may be called, with schemas of their arguments.
        required: whether the answer is calls and nothing else.
        several: whether there may be more than one.
        answer: JSON that an answer without calls is; None for any text, which calls may follow.
    """
    functions = [[tool.name, {"type": "object"} if tool.parameters is None else tool.parameters] for tool in tools]
    asked = {"tools": functions, "required": required, "several": several, "answer": answer and answer.parsed()}
    return Structure("tools", json.dumps(asked, ensure_ascii=False))


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
        elif structure.kind == "tools":
            grammar = _grammar_of_calls(structure.parsed())
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


def _grammar_of_calls(asked: dict[str, Any]) -> str:
    """Return a grammar in llguidance's dialect of Lark."""
    begin, end = json.dumps(CALL_BEGIN), json.dumps(CALL_END)
    calls = rf'{begin} body {end} ("\n" {begin} body {end})*' if asked["several"] else f"{begin} body {end}"
    if asked["required"]:
        start = f'" "? {calls}'
    elif asked["answer"] is not None:
        start = f'" "? ({calls} | {_json_rule(asked["answer"])})'
    else:  # free until a call begins
        start = f"TEXT | opening {calls.removeprefix(begin)}"
    functions = [
        f'fn_{number}: {_text_rule(f"""{{"name":{json.dumps(name, ensure_ascii=False)},"arguments":""")} '
        f'{_json_rule(schema)} "}}"'
        for number, (name, schema) in enumerate(asked["tools"])
    ]
    body = " | ".join(f"fn_{number}" for number in range(len(functions)))
    rules = [
        "%llguidance {}", f"start: {start}", f"opening[lazy]: TEXT {begin}", f"body: {body}", *functions,
        r"TEXT: /(.|\n)*/",
    ]  # fmt: skip
    return "\n".join(rules)


def _text_rule(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json_rule(schema: Any) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': COMPACT} if isinstance(schema, dict) else schema)}"
