import random

import pytest

from llama_platform.canary.counts import ArmCounts, Observation
from llama_platform.canary.judge import LEARNED_FROM, judge
from llama_platform.canary.plan import Canary, CanaryPlan, Period

PLAN = CanaryPlan(shares=(20, 50), requests=300)


def canary(plan=PLAN):
    return Canary(
        status="running", name="a", alias="production", present=1, candidate=2, plan=plan,
        periods=(Period(generation=1, share=plan.shares[0]),),
    )  # fmt: skip


def run(seed, of_present, of_candidate, plan=PLAN, most=20_000):
    """Send requests until there is a verdict; return it and how many requests the candidate had answered."""
    chance, state = random.Random(seed), canary(plan)
    counts = [{1: ArmCounts(), 2: ArmCounts()}]
    for number in range(1, most):
        candidate = chance.random() * 100 < state.periods[-1].share
        counts[-1][2 if candidate else 1].observe((of_candidate if candidate else of_present)(chance))
        if number % 20:
            continue
        verdict = judge(state, counts)
        state = verdict.canary
        if verdict.action in ("promote", "roll_back"):
            return verdict, sum(arms[2].requests for arms in counts)
        if verdict.action == "advance":
            share = plan.shares[len(state.periods)]
            state = state.model_copy(update={"periods": (*state.periods, Period(generation=number, share=share))})
            counts.append({1: ArmCounts(), 2: ArmCounts()})
    raise AssertionError("no verdict")


def answers(failed=0.05, ms=50.0, tokens=60.0):
    def one(chance):
        return Observation(
            failed=chance.random() < failed,
            first_token_ms=chance.lognormvariate(0, 0.4) * ms,
            answer_tokens=max(1, int(chance.lognormvariate(0, 0.5) * tokens)),
        )

    return one


def test_of_two_hundred_equal_versions_few_are_rolled_back():
    actions = [run(seed, answers(), answers())[0].action for seed in range(200)]
    assert actions.count("roll_back") <= 0.05 * 200
    assert set(actions) == {"promote", "roll_back"} or set(actions) == {"promote"}


def test_of_two_hundred_with_twice_the_errors_nearly_all_are_rolled_back():
    plan = CanaryPlan(shares=(20, 50), requests=1500)
    found = [run(seed, answers(0.05), answers(0.10), plan) for seed in range(200)]
    rolled_back = [(verdict, requests) for verdict, requests in found if verdict.action == "roll_back"]
    assert len(rolled_back) >= 0.95 * 200
    assert all("answers that fail" in verdict.reason for verdict, _ in rolled_back[:20])
    needed = sorted(requests for _, requests in rolled_back)
    assert needed[len(needed) // 2] < 800
    print(
        "requests of the candidate until it was rolled back, median and 95th percentile:",
        needed[len(needed) // 2],
        needed[int(0.95 * len(needed))],
    )


def test_a_poisoned_version_goes_within_a_few_requests():
    verdict, requests = run(1, answers(0.01), answers(1.0))
    assert (verdict.action, requests <= 30) == ("roll_back", True)
    assert verdict.reason.startswith("answers that fail: ")


@pytest.mark.parametrize(
    ("worse", "guard"),
    [
        (answers(ms=200.0), "first tokens later"),
        (answers(tokens=8.0), "answers shorter"),
        (answers(tokens=400.0), "answers longer"),
    ],
)
def test_what_is_slow_short_or_long_is_measured_by_the_present_version(worse, guard):
    verdict, _ = run(3, answers(), worse)
    assert (verdict.action, verdict.reason.startswith(guard)) == ("roll_back", True)


def test_what_limits_were_learned_from_does_not_count_for_them():
    present, candidate = ArmCounts(), ArmCounts()
    for number in range(LEARNED_FROM):
        present.observe(Observation(first_token_ms=10, answer_tokens=10))
        candidate.observe(Observation(first_token_ms=1000, answer_tokens=10, failed=number < 5))
    learned = judge(canary(CanaryPlan(requests=10**6)), [{1: present, 2: candidate}]).canary
    assert learned.limits is not None
    assert (learned.guards["slow"].candidate, learned.guards["failed"].candidate) == (0, 5)
    candidate.observe(Observation(first_token_ms=1000))
    assert judge(learned, [{1: present, 2: candidate}]).canary.guards["slow"].candidate == 1


def test_no_step_ends_before_it_is_known_what_is_slow():
    plan = CanaryPlan(shares=(90,), requests=50)
    state = Canary(status="running", present=1, candidate=2, plan=plan, periods=(Period(generation=1, share=90),))
    present, candidate = ArmCounts(), ArmCounts()
    for number in range(600):
        of_present = number < LEARNED_FROM
        candidate.observe(Observation(first_token_ms=9000, answer_tokens=900))
        if of_present:
            present.observe(Observation(failed=True))  # without an answer nothing can be learned
    assert judge(state, [{1: present, 2: candidate}]).action == "wait"
    for _ in range(LEARNED_FROM):
        present.observe(Observation(first_token_ms=100, answer_tokens=10))
    assert judge(state, [{1: present, 2: candidate}]).canary.limits is not None


def test_only_the_guards_that_are_asked_for_count():
    plan = CanaryPlan(shares=(50,), requests=200, guards=("slow",))
    verdict, _ = run(1, answers(0.0), answers(0.5), plan)
    assert verdict.action == "promote"
    assert list(verdict.canary.guards) == ["slow"]
    assert "no guard spoke against it" in verdict.reason
