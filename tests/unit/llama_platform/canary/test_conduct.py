from concurrent.futures import ThreadPoolExecutor

import pytest

from artifact_folders import repository_of_versions
from llama_platform.artifacts.aliases import Aliases
from llama_platform.audit.trail import read_trail
from llama_platform.canary.conduct import Conductor
from llama_platform.canary.counts import Observation, SplitBook, SplitKey
from llama_platform.canary.plan import CanaryPlan, list_canaries, running_canaries
from llama_platform.errors import ConflictError, NotFoundError

PLAN = CanaryPlan(shares=(10, 50), requests=20, guards=("failed", "refused"))


@pytest.fixture
def repository(tmp_path, adapter_folder):
    repository = repository_of_versions(tmp_path, adapter_folder, 3)
    Aliases(repository, "adapter", "support").promote("production", 1)
    return repository


@pytest.fixture
def conductor(repository):
    return Conductor(repository, "support", "production")


@pytest.fixture
def count(repository):
    """Count requests of the present split."""
    book = SplitBook(repository.store, "process")

    def count(canary, version, number, **facts):
        for _ in range(number):
            split = SplitKey("support", "production", canary.periods[-1].generation)
            book.observe(split, version, Observation(**facts))
        book.write()

    return count


def targets(repository):
    found = Aliases(repository, "adapter", "support").read().aliases["production"]
    return {target.version: target.weight for target in found}


def test_it_grows_step_by_step_and_is_promoted(repository, conductor, count):
    canary = conductor.start(2, PLAN)
    assert targets(repository) == {1: 90, 2: 10}
    count(canary, 2, 19)
    assert len(conductor.step().periods) == 1
    count(canary, 2, 1)
    canary = conductor.step()
    assert targets(repository) == {1: 50, 2: 50}
    count(canary, 2, 20)
    ended = conductor.step()
    assert (ended.status, targets(repository)) == ("promoted", {2: 1})
    assert ended.requests[2] == 40
    assert "no guard spoke against it in 40 requests" in ended.reason
    assert conductor.step() == ended
    assert running_canaries(repository.store) == ([], [])
    assert list(repository.store.list_keys("canaries/support/production/counts/")) == []
    Aliases(repository, "adapter", "support").rollback("production")
    assert targets(repository) == {1: 1}  # what was before the canary, not one of its steps
    assert [one.status for one in list_canaries(repository.store)] == ["promoted"]
    acts = [record["what"] for record in read_trail(repository.store) if "what" in record]
    assert [what for what in acts if what.startswith("canary.")] == [
        "canary.start", "canary.advance", "canary.advance", "canary.promoted",
    ]  # fmt: skip


def test_a_bad_version_is_rolled_back_with_the_figures(repository, conductor, count):
    canary = conductor.start(2, PLAN)
    count(canary, 1, 60)
    count(canary, 2, 6, failed=True)
    ended = conductor.step()
    assert (ended.status, targets(repository)) == ("rolled_back", {1: 1})
    assert ended.reason.startswith("answers that fail: 6 of 6 requests of version 2, 0 of 60 of version 1; evidence ")


def test_a_version_that_replicas_refuse_is_rolled_back(repository, conductor):
    conductor.start(2, PLAN)
    assert conductor.refuse("it must not answer: damaged").reason == "it must not answer: damaged"
    assert targets(repository) == {1: 1}
    assert conductor.refuse("again").reason == "it must not answer: damaged"


@pytest.mark.parametrize("dies_at", [1, 2, 3, 4, 5, 6])
def test_whoever_dies_between_two_writes_is_followed_by_one_who_comes_to_the_same_end(
    repository, conductor, count, monkeypatch, dies_at
):
    canary = conductor.start(2, CanaryPlan(shares=(10,), requests=20, guards=("failed",)))
    count(canary, 2, 20)
    writes, write = 0, type(repository.store).write

    def dying(*arguments, **settings):
        nonlocal writes
        writes += 1
        if writes == dies_at:
            raise KeyboardInterrupt
        return write(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(type(repository.store), "write", dying)
        try:
            conductor.step()
        except KeyboardInterrupt:
            assert writes == dies_at
    ended = Conductor(repository, "support", "production").step()
    assert (ended.status, targets(repository)) == ("promoted", {2: 1})


def test_dying_while_the_first_share_is_given_leaves_one_period(repository, conductor, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Conductor, "_carry_out", lambda self, canary: canary)
        conductor.start(2, PLAN)
    assert targets(repository) == {1: 1}
    assert [period.share for period in conductor.step().periods] == [10]
    with monkeypatch.context() as patch:
        patch.setattr(Conductor, "_write", lambda self, before, after: before)
        conductor.step()
    assert targets(repository) == {1: 90, 2: 10}


def test_somebody_elses_change_of_the_alias_ends_it(repository, conductor):
    conductor.start(2, PLAN)
    Aliases(repository, "adapter", "support").promote("other", 3)
    assert conductor.step().status == "running"  # of another alias
    Aliases(repository, "adapter", "support").promote("production", 3)
    assert conductor.step().status == "superseded"
    assert targets(repository) == {3: 1}


def test_stopping_gives_the_traffic_back(repository, conductor):
    Aliases(repository, "adapter", "support").promote("production", 3)
    conductor.start(2, PLAN)
    assert conductor.stop().status == "stopped"
    assert targets(repository) == {3: 1}
    Aliases(repository, "adapter", "support").rollback("production")
    assert targets(repository) == {1: 1}  # what was before version 3
    with pytest.raises(NotFoundError, match="has ended: stopped"):
        conductor.stop()
    assert conductor.start(3, PLAN).status == "running"  # another one may follow


def test_stopping_wins_over_what_is_counted_at_the_same_moment(repository, conductor, count, monkeypatch):
    canary = conductor.start(2, PLAN)
    follower, point = Conductor(repository, "support", "production"), Conductor._point

    def pointed(self, *arguments):
        found = point(self, *arguments)
        count(canary, 1, 3)
        with monkeypatch.context() as patch:
            patch.setattr(Conductor, "_point", point)
            follower.step()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Conductor, "_point", pointed)
        conductor.stop()
    assert (conductor.read().status, targets(repository)) == ("stopped", {1: 1})


def test_what_cannot_begin_says_why(repository, conductor):
    with pytest.raises(NotFoundError, match="never had a canary"):
        conductor.read()
    for version, plan, kind, words in (
        (1, PLAN, ConflictError, "points at version 1 already"),
        (9, PLAN, NotFoundError, "9"),
    ):
        with pytest.raises(kind, match=words):
            conductor.start(version, plan)
    with pytest.raises(NotFoundError, match="has no alias 'beta'"):
        Conductor(repository, "support", "beta").start(2, PLAN)
    conductor.start(2, PLAN)
    Aliases(repository, "adapter", "support").split("beta", {1: 1, 2: 1})
    with pytest.raises(ConflictError, match="splits its traffic; promote one version first"):
        Conductor(repository, "support", "beta").start(3, PLAN)
    with pytest.raises(ConflictError, match="of version 2 runs; stop it first"):
        conductor.start(3, PLAN)


def test_who_comes_late_with_an_old_state_changes_nothing(repository, conductor, count, monkeypatch):
    canary = conductor.start(2, PLAN)
    count(canary, 2, 20)
    late = Conductor(repository, "support", "production")
    held = {}
    with monkeypatch.context() as patch:  # `late` reads that the share is to grow, and is then put aside
        patch.setattr(Conductor, "_point", lambda self, canary, weights: held.update(canary=canary) or None)
        patch.setattr(Conductor, "_end", lambda self, canary, *_: canary)
        late.step()
    conductor.step()
    conductor.refuse("broken")
    assert targets(repository) == {1: 1}
    assert held["canary"].intent == "advance"
    assert late._carry_out(held["canary"]).status == "rolled_back"
    assert targets(repository) == {1: 1}


def test_of_two_who_look_at_once_one_decides(repository, conductor, count):
    canary = conductor.start(2, PLAN)
    count(canary, 2, 20)
    others = [Conductor(repository, "support", "production") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: one.step(), others))
    found = conductor.step()
    assert [period.share for period in found.periods] == [10, 50]
    assert targets(repository) == {1: 50, 2: 50}
