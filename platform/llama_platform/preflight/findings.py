"""What a check has found."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    """`error`: what was asked for will not work. `warning`: it will, but not as one may expect."""
    check: str
    """What was looked at, in a word or two."""
    text: str
    """What was found and, unless all is well, what to do."""


def worst(findings: Iterable[Finding]) -> Level:
    """Return the highest level; `ok` of nothing."""
    levels = {finding.level for finding in findings}
    return "error" if "error" in levels else "warning" if "warning" in levels else "ok"
