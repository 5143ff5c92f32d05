"""Judge: what a canary's counts say. A function of values: no clock, no store."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llama_platform.canary.counts import ArmCounts, Arms, upper_bound
from llama_platform.canary.plan import GUARDS, Canary, Guard, GuardState, Limits
from llama_platform.canary.sequential import Events, log_evidence

LEARNED_FROM = 100
"""Answers of the present version that tell what is slow, short and long; until then no step ends."""
LIMITED: frozenset[Guard] = frozenset(("slow", "short", "long"))
OUTLYING = 0.9
"""Share of the present version's answers that are none of these."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done, and what was counted."""

    action: Literal["wait", "advance", "promote", "roll_back"]
    canary: Canary
    """With limits, guards and counts as they are now."""
    reason: str = ""


def judge(canary: Canary, counts: Sequence[Arms]) -> Verdict:
    """Return what a running canary's counts say.

    What is slow, short or long is learned from the first period's answers of the present version; these are not counted
    again in the guards that use it, since what follows must be independent of it.

    Args:
        canary: as it was judged last.
        counts: what was counted in each of its periods, by version.
    """
    seen = _now(canary, counts)
    for guard, state in seen.guards.items():
        if state.evidence >= seen.needed:
            return Verdict("roll_back", seen, _against(seen, guard, state))
    if seen.limits is None and LIMITED & {*canary.plan.guards}:
        return Verdict("wait", seen)  # what is slow or short is not known yet
    of_step = counts[-1].get(canary.candidate, ArmCounts()).requests if counts else 0
    if of_step < canary.plan.requests:
        return Verdict("wait", seen)
    if len(canary.periods) < len(canary.plan.shares):
        return Verdict("advance", seen)
    total = seen.requests.get(canary.candidate, 0)
    return Verdict("promote", seen, f"no guard spoke against it in {total} requests")


def _now(canary: Canary, counts: Sequence[Arms]) -> Canary:
    """Return the canary with what was counted by now."""
    requests = {
        version: sum(arms.get(version, ArmCounts()).requests for arms in counts)
        for version in (canary.present, canary.candidate)
    }
    limits, learned = canary.limits, canary.learned
    if limits is None and counts and (first := counts[0].get(canary.present)) and _is_enough(first):
        limits = _learn(first)
        learned = {version: arm.model_copy(deep=True) for version, arm in counts[0].items()}
    seen = canary.model_copy(update={"requests": requests, "limits": limits, "learned": learned})
    guards = {guard: _state(seen, guard, counts) for guard in canary.plan.guards}
    needed = math.log(len(canary.plan.guards) / canary.plan.alpha)
    return seen.model_copy(update={"guards": guards, "needed": needed})


def _is_enough(present: ArmCounts) -> bool:
    return min(present.first_token_ms.total, present.answer_tokens.total) >= LEARNED_FROM


def _learn(present: ArmCounts) -> Limits:
    times, lengths = present.first_token_ms, present.answer_tokens
    return Limits(
        slow_above=times.quantile(OUTLYING),
        short_below=lengths.quantile(1 - OUTLYING),
        long_above=lengths.quantile(OUTLYING),
    )


def _state(canary: Canary, guard: Guard, counts: Sequence[Arms]) -> GuardState:
    events = []
    for number, (period, arms) in enumerate(zip(canary.periods, counts, strict=True)):
        learned = canary.learned if number == 0 else {}
        of_candidate, of_present = (
            _events(canary, guard, arms.get(version, ArmCounts()))
            - _events(canary, guard, learned.get(version, ArmCounts()), only_limited=True)
            for version in (canary.candidate, canary.present)
        )
        events.append(Events(period.share / 100, of_candidate, of_present))
    return GuardState(
        candidate=sum(one.candidate for one in events),
        present=sum(one.present for one in events),
        evidence=round(log_evidence(events), 4),
    )


def _events(canary: Canary, guard: Guard, counts: ArmCounts, only_limited: bool = False) -> int:
    """Return how often something happened that a guard counts; with `only_limited`, of what needs limits alone."""
    limits = canary.limits
    if guard == "slow":
        return counts.first_token_ms.above(limits.slow_above) if limits else 0
    if guard == "long":
        return counts.answer_tokens.above(limits.long_above) if limits else 0
    if guard == "short":
        lengths = counts.answer_tokens
        return lengths.total - lengths.above(limits.short_below - 1) if limits else 0
    return 0 if only_limited else int(getattr(counts, guard))


def _against(canary: Canary, guard: Guard, state: GuardState) -> str:
    limits = canary.limits
    bounds = {} if limits is None else {
        "slow": f" (over {upper_bound(limits.slow_above):,.0f} ms)",
        "short": f" (under {upper_bound(limits.short_below - 1):,.0f} tokens)",
        "long": f" (over {upper_bound(limits.long_above):,.0f} tokens)",
    }  # fmt: skip
    of_candidate, of_present = (canary.requests[version] for version in (canary.candidate, canary.present))
    return (
        f"{GUARDS[guard]}{bounds.get(guard, '')}: {state.candidate} of {of_candidate} requests of version "
        f"{canary.candidate}, {state.present} of {of_present} of version {canary.present}; evidence "
        f"{math.exp(min(state.evidence, 50)):,.0f} to 1, needed {math.exp(canary.needed):,.0f}"
    )
