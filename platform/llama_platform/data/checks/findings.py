"""Findings log: every finding goes to a file as it comes; counts and the first places stay in memory."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from llama_platform.data.checks.doctor import Finding, as_record
from llama_platform.data.checks.policies import Policies
from llama_platform.errors import InputError

REPORTED_PLACES = 100
SHOWN_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class Place:
    """Where a finding was made."""

    where: str
    """`file:line`."""
    problem: str
    action: str
    """What was done: `fail`, `drop`, `fix` or `warn`."""


@dataclass(frozen=True, slots=True)
class FindingCounts:
    """The findings of one kind."""

    count: int
    actions: Mapping[str, int]
    """Findings by what was done."""
    places: tuple[Place, ...]
    """The first REPORTED_PLACES."""


class FindingsLog:
    """Collects findings; a context manager, since it keeps its file open."""

    def __init__(self, path: Path) -> None:
        """Write to `path`, one JSON object a line."""
        self._path = path
        self._actions: dict[str, Counter[str]] = {}
        self._places: dict[str, list[Place]] = {}
        self._failed: list[Finding] = []
        self._num_failed = 0

    def __enter__(self) -> "FindingsLog":
        self._file = self._path.open("w", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def extend(self, findings: Iterable[Finding]) -> None:
        """Add findings."""
        for finding in findings:
            self.add(finding)

    def add(self, finding: Finding) -> None:
        """Add a finding."""
        record = as_record(finding)
        self._file.write(json.dumps(record) + "\n")
        self._actions.setdefault(finding.kind, Counter())[finding.action] += 1
        places = self._places.setdefault(finding.kind, [])
        if len(places) < REPORTED_PLACES:
            places.append(Place(finding.where, finding.problem, finding.action))
        if finding.action == "fail":
            self._num_failed += 1
            self._failed += [finding] if len(self._failed) < SHOWN_PROBLEMS else []

    def summary(self) -> dict[str, FindingCounts]:
        """Return the counts by kind, with the first places of each."""
        return {
            kind: FindingCounts(actions.total(), dict(actions), tuple(self._places[kind]))
            for kind, actions in self._actions.items()
        }

    def refuse(self) -> None:
        """Raise if a finding's policy is `fail`.

        Raises:
            InputError: with the first places, and what to do.
        """
        if not self._num_failed:
            return
        lines = [f"{finding.where}: {finding.problem}" for finding in self._failed]
        more = f"\n… and {self._num_failed - len(lines)} more" if self._num_failed > len(lines) else ""
        kinds = sorted({finding.kind for finding in self._failed})
        choices = "\n".join(f"  --set data.policies.{kind}={'|'.join(_others(kind))}" for kind in kinds)
        raise InputError(
            "\n".join(lines)
            + f"{more}\n{self._num_failed} findings stop the job: correct them, or choose what becomes "
            f"of such chats (`drop` leaves them out, `fix` repairs, `warn` keeps):\n{choices}"
        )


def _others(kind: str) -> list[str]:
    """Return the actions that a kind of finding may have beside `fail`."""
    allowed = get_args(Policies.model_fields[kind].annotation)
    return [action for action in ("drop", "fix", "warn") if action in allowed]
