"""Conditions on a comparison, such as `perplexity > 12`, by which an adapter is refused."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llama_platform.errors import ConfigError
from llama_platform.evaluation.compare import MEASURES, Comparison

_CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*(\S+)\s*")
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A bound on a measure, such as `perplexity > 12` or `rouge_l < against`."""

    text: str
    measure: str
    compare: Callable[[float, float], bool]
    bound: float | None
    """None for the same measure of what it is compared with."""

    def holds(self, comparison: Comparison) -> bool:
        """Return whether the candidate's measure is beyond the bound.

        Raises:
            ConfigError: it was not measured.
        """
        try:
            value = comparison.candidate.measures[self.measure]
            bound = comparison.against.measures[self.measure] if self.bound is None else self.bound
        except KeyError as error:
            raise ConfigError(f"{self.text!r}: {self.measure} needs evaluation.answered_chats above 0") from error
        return self.compare(value, bound)


def parse_condition(text: str) -> Condition:
    """Parse `MEASURE OPERATOR NUMBER`, or `against` in place of the number.

    Raises:
        ConfigError: it is something else.
    """
    match = _CONDITION.fullmatch(text)
    known = f"known measures: {', '.join(MEASURES)}"
    if match is None or match[1] not in MEASURES:
        raise ConfigError(f"condition {text!r}: expected something like 'perplexity > 12'; {known}")
    if match[3] == "against":
        return Condition(text, match[1], _COMPARE[match[2]], None)
    try:
        bound = float(match[3])
    except ValueError as error:
        raise ConfigError(f"condition {text!r}: {match[3]!r} is neither a number nor 'against'") from error
    return Condition(text, match[1], _COMPARE[match[2]], bound)
