"""Doctor: what can be wrong with a chat, what is done about it, and the chat after treatment.

Each kind of finding has a policy: `fail` stops the job with the list of places, `drop` leaves the chat out, `fix`
repairs it, `warn` keeps it as it is. Whatever the policy, the finding is reported with file and line.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import ftfy
from ftfy.badness import is_bad

from llama_platform.data.checks.policies import Action, Policies, QualityFilters
from llama_platform.data.checks.words import repetition, words
from llama_platform.models.prompt import Message, frames, neutralize
from llama_platform.safety.personal_data import PersonalKind, find_personal_data, redact

REPLACEMENT = "\ufffd"
# Tab, line feed and carriage return are text; the others, bidirectional overrides and zero-width characters are not.
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found, and what was done about it."""

    kind: str
    where: str
    """`file:line`."""
    problem: str
    action: Action


@dataclass(slots=True)
class CheckedChat:
    """A chat under examination; `messages` is None once it is dropped."""

    messages: list[Message] | None
    where: str
    findings: list[Finding] = field(default_factory=list)

    def report(self, kind: str, action: Action, problem: str) -> None:
        """Add a finding; `fail` and `drop` end the examination."""
        self.findings.append(Finding(kind, self.where, problem, action))
        if action in ("fail", "drop"):
            self.messages = None


def examine(patient: CheckedChat, policies: Policies, quality: QualityFilters, phone_region: str) -> None:
    """Check a chat's texts, turns and quality; what the policies repair is repaired.

    Args:
        patient: chat to check; its messages and findings change.
        policies: what becomes of each kind of finding.
        quality: bounds that a chat must keep.
        phone_region: country whose phone numbers need no country code, such as `US`.
    """
    checks: tuple[Callable[[CheckedChat], None], ...] = (
        lambda p: _check_texts(p, policies, phone_region),
        lambda p: _check_empty_turns(p, policies.empty_turn),
        lambda p: _check_role_order(p, policies.role_order),
        lambda p: _check_unanswered(p, policies.unanswered),
        lambda p: _check_quality(p, policies.quality, quality),
    )
    for check in checks:
        if patient.messages is not None:
            check(patient)


def _check_texts(patient: CheckedChat, policies: Policies, phone_region: str) -> None:
    treatments: tuple[tuple[str, Action, Callable[[str], tuple[str, str]]], ...] = (
        ("encoding", policies.encoding, _mend_encoding),
        ("mojibake", policies.mojibake, _mend_mojibake),
        ("control_characters", policies.control_characters, _remove_control_characters),
        ("line_ends", policies.line_ends, _mend_line_ends),
        ("frame", policies.frame, _neutralize),
    )
    for kind, action, treatment in treatments:
        _treat(patient, kind, action, treatment)
    if patient.messages is not None:
        _check_personal_data(patient, policies, phone_region)


def _treat(patient: CheckedChat, kind: str, action: Action, treatment: Callable[[str], tuple[str, str]]) -> None:
    for index, message in enumerate(patient.messages or []):
        text, problem = treatment(message.content)
        if problem:
            patient.report(kind, action, f"turn {index + 1} {problem}")
            if patient.messages is None:
                return
            if action == "fix":
                patient.messages[index] = replace(message, content=text)


def _mend_encoding(text: str) -> tuple[str, str]:
    if half := _SURROGATE.search(text):
        return _SURROGATE.sub("", text), f"holds half a character (a lone surrogate) at position {half.start()}"
    if (position := text.find(REPLACEMENT)) >= 0:
        return text.replace(REPLACEMENT, ""), f"holds a damaged character (not UTF-8, or U+FFFD) at position {position}"
    return text, ""


def _mend_mojibake(text: str) -> tuple[str, str]:
    if text.isascii() or not is_bad(text):
        return text, ""
    mended = str(ftfy.fix_encoding(text))
    return (mended, "was decoded as another encoding") if mended != text else (text, "")


def _remove_control_characters(text: str) -> tuple[str, str]:
    found = Counter(f"U+{ord(character):04X}" for character in _CONTROL.findall(text))
    if not found:
        return text, ""
    return _CONTROL.sub("", text), "holds control characters: " + ", ".join(f"{c} × {n}" for c, n in found.items())


def _mend_line_ends(text: str) -> tuple[str, str]:
    return (text.replace("\r\n", "\n"), "has line ends of two characters") if "\r\n" in text else (text, "")


def _neutralize(text: str) -> tuple[str, str]:
    found = frames(text)
    return (neutralize(text), f"looks like the frame of a turn: {', '.join(found)}") if found else (text, "")


def _check_personal_data(patient: CheckedChat, policies: Policies, phone_region: str) -> None:
    for index, message in enumerate(patient.messages or []):
        places = find_personal_data(message.content, phone_region)
        counts: Counter[PersonalKind] = Counter(place.kind for place in places)
        for kind, count in counts.items():
            # The finding does not repeat the text: reports travel further than the data.
            patient.report(kind, getattr(policies, kind), f"turn {index + 1} holds {count} × {kind}")
            if patient.messages is None:
                return
        mended = [place for place in places if getattr(policies, place.kind) == "fix"]
        if mended and patient.messages is not None:
            patient.messages[index] = replace(message, content=redact(message.content, mended))


def _check_empty_turns(patient: CheckedChat, action: Action) -> None:
    messages = patient.messages or []
    for index, message in enumerate(messages):
        if not message.content.strip():
            patient.report("empty_turn", action, f"turn {index + 1}, by '{message.role}', is empty")
            if action != "fix":
                return
    if any(not message.content.strip() for message in messages):
        patient.messages = list(_without_empty(messages))


def _without_empty(messages: list[Message]) -> Iterator[Message]:
    """Yield the turns but the empty ones and the partners of these in their exchange."""
    skipped: set[int] = set()
    for index, message in enumerate(messages):
        if not message.content.strip():
            skipped.add(index)
            if message.role == "user" and index + 1 < len(messages) and messages[index + 1].role == "assistant":
                skipped.add(index + 1)
            if message.role == "assistant" and index > 0 and messages[index - 1].role == "user":
                skipped.add(index - 1)
    return (message for index, message in enumerate(messages) if index not in skipped)


def _check_role_order(patient: CheckedChat, action: Action) -> None:
    messages = patient.messages or []
    if not messages:
        patient.report("untrainable", "drop", "no turns are left")
        return
    problem = _role_problem(messages)
    if problem is None:
        return
    patient.report("role_order", action, problem)
    if action != "fix":
        return
    systems = [m for m in messages if m.role == "system"]
    system = [replace(systems[0], content="\n\n".join(m.content for m in systems))] if systems else []
    turns = [m for m in messages if m.role != "system"]
    while turns and turns[0].role == "assistant":
        turns = turns[1:]
    joined: list[Message] = []
    for turn in turns:
        if not joined or joined[-1].role != turn.role:
            joined.append(turn)
        elif (joined[-1].trained is False) != (turn.trained is False):
            # One of them is marked as not to be learned: together, it would be, or the other would not.
            left_out = joined[-1] if joined[-1].trained is False else turn
            joined[-1] = turn if left_out is joined[-1] else joined[-1]
            patient.report(
                "role_order", "fix", f"of two turns by '{turn.role}', the one that is not trained is left out"
            )
        else:
            joined[-1] = replace(turn, content=f"{joined[-1].content}\n\n{turn.content}")
    patient.messages = [*system, *joined]
    if (left := _role_problem(patient.messages)) is not None:
        patient.report("role_order", "drop", f"cannot be fixed: {left}")


def _role_problem(messages: list[Message]) -> str | None:
    start = 1 if messages and messages[0].role == "system" else 0
    if start == len(messages):
        return "only a system turn" if start else "no turns"
    for index, message in enumerate(messages[start:]):
        expected = "user" if index % 2 == 0 else "assistant"
        if message.role != expected:
            return f"turn {start + index + 1} is by '{message.role}' where '{expected}' must speak"
    return None


def _check_unanswered(patient: CheckedChat, action: Action) -> None:
    messages = patient.messages or []
    if messages[-1].role == "user":
        patient.report("unanswered", action, "the last turn is the user's")
        if action == "fix":
            patient.messages = messages[:-1]


def _check_quality(patient: CheckedChat, action: Action, bounds: QualityFilters) -> None:
    messages = patient.messages or []
    for problem in _quality_problems([m for m in messages if m.role != "system"], bounds):
        patient.report("quality", action, problem)
        return  # one reason is enough


def _quality_problems(turns: list[Message], bounds: QualityFilters) -> Iterator[str]:
    if len(turns) < bounds.min_turns:
        yield f"{len(turns)} turns, under min_turns {bounds.min_turns}"
    if bounds.max_turns and len(turns) > bounds.max_turns:
        yield f"{len(turns)} turns, over max_turns {bounds.max_turns}"
    for number, answer in enumerate((turn.content for turn in turns if turn.role == "assistant"), 1):
        yield from (f"answer {number}: {problem}" for problem in _answer_problems(answer, bounds))


def _answer_problems(answer: str, bounds: QualityFilters) -> Iterator[str]:
    count = len(words(answer)) if bounds.min_answer_words or bounds.max_answer_words else 0
    if count < bounds.min_answer_words:
        yield f"{count} words, under min_answer_words {bounds.min_answer_words}"
    if bounds.max_answer_words and count > bounds.max_answer_words:
        yield f"{count} words, over max_answer_words {bounds.max_answer_words}"
    if bounds.max_repetition < 1 and (share := repetition(answer)) > bounds.max_repetition:
        yield f"repetition {share:.2f}, over max_repetition {bounds.max_repetition}"
    if bounds.max_symbols < 1:
        symbols = sum(not (c.isalnum() or c.isspace()) for c in answer) / max(len(answer), 1)
        if symbols > bounds.max_symbols:
            yield f"share of symbols {symbols:.2f}, over max_symbols {bounds.max_symbols}"
    for pattern in bounds.refused_patterns:
        if re.search(pattern, answer):
            yield f"matches {pattern!r} of refused_patterns"


def as_record(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON values."""
    return {"kind": finding.kind, "where": finding.where, "problem": finding.problem, "action": finding.action}
