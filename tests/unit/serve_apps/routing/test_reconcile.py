"""What is live, as a table of what is said, checked and held."""

import pytest

from llama_platform.artifacts.aliases import AliasChange, AliasDocument, Target
from llama_platform.artifacts.repository import ArtifactVersion
from serve_apps.routing.reconcile import Reconciler


def version(number, name="support"):
    return ArtifactVersion("adapter", name, number, f"{name}-{number}", "")


def document(*generations, name="production"):
    """Return the document after an alias was pointed at these {version: weight}, one after another."""
    history = [
        AliasChange(
            generation=n, at="", alias=name, action="promote", parent=n - 1 or None,
            targets=tuple(Target(version=v, weight=w) for v, w in targets.items()),
        )
        for n, targets in enumerate(generations, 1)
    ]  # fmt: skip
    return AliasDocument(generation=len(history), aliases={name: history[-1].targets}, history=tuple(history))


@pytest.fixture
def live():
    return Reconciler(lease_s=2, most_pinned=3)


def state(live, name="support", alias="production"):
    found = live.table.aliases[name, alias]
    return found.status, {t.version.version: t.weight for t in found.targets}


def promote(live, *generations, checked=(1, 2), now=0.0):
    live.set_document("support", document(*generations))
    for number in checked:
        live.set_checked("support", number, version(number))
    return live.publish([], now)


def test_without_replicas_a_checked_version_is_live_at_once(live):
    assert promote(live, {1: 1}, checked=())
    assert state(live) == ("pending", {})
    assert live.unchecked == {("support", 1)}
    live.set_checked("support", 1, version(1))
    assert live.publish([], 0)
    assert state(live) == ("live", {1: 1})
    assert live.unchecked == frozenset()


def test_a_version_is_live_when_all_replicas_hold_it(live):
    for replica in "ab":
        live.set_replica(replica, {"support-1": None}, {}, 0)
    promote(live, {1: 1})
    promote(live, {1: 1}, {2: 1})
    assert state(live) == ("pending", {1: 1})
    assert [v.version for v in live.pinned] == [1, 2]  # what is live stays until the new one is
    live.set_replica("a", {"support-1": None, "support-2": None}, {}, 0)
    live.publish([], 0)
    assert state(live) == ("pending", {1: 1})
    live.set_replica("b", {"support-1": None, "support-2": None}, {}, 0)
    live.publish([], 0)
    assert state(live) == ("live", {2: 1})
    live.publish([], 0)
    assert [v.version for v in live.pinned] == [2]


def test_a_silent_replica_does_not_count(live):
    live.set_replica("a", {}, {}, 0)
    promote(live, {1: 1})
    assert state(live)[0] == "pending"
    live.publish([], 3)
    assert state(live) == ("live", {1: 1})
    assert live.table.replicas == {}


def test_a_refused_version_leaves_the_old_one(live):
    promote(live, {1: 1})
    live.set_checked("support", 3, "damaged")
    promote(live, {1: 1}, {3: 1})
    assert state(live) == ("refused", {1: 1})
    assert live.table.aliases["support", "production"].reason == "version 3: damaged"


def test_what_a_replica_refuses_is_refused(live):
    promote(live, {1: 1})
    live.set_replica("a", {"support-1": None, "support-2": "does not fit the base"}, {}, 0)
    promote(live, {1: 1}, {2: 1})
    assert state(live) == ("refused", {1: 1})


def test_after_a_cold_start_the_newest_fit_of_history_answers(live):
    live.set_checked("support", 4, "damaged")
    live.set_checked("support", 3, "damaged")
    promote(live, {1: 1}, {2: 1}, {3: 1}, {4: 1})
    assert state(live) == ("refused", {2: 1})


def test_a_split_is_live_as_a_whole(live):
    promote(live, {1: 1})
    promote(live, {1: 1}, {1: 90, 3: 10})
    assert state(live) == ("pending", {1: 1})
    live.set_checked("support", 3, version(3))
    live.publish([], 0)
    assert state(live) == ("live", {1: 90, 3: 10})


def test_important_names_are_pinned_first_and_the_rest_is_live_without(live):
    for name in "abcdef":
        live.set_document(name, document({1: 1}))
        live.set_checked(name, 1, version(1, name))
    live.set_replica("r", {"f-1": None, "a-1": None, "b-1": None}, {}, 0)
    live.publish(["f"], 0)
    live.publish(["f"], 0)
    assert [v.name for v in live.pinned] == ["f", "a", "b"]
    assert {state(live, name)[0] for name in "abcdef"} == {"live"}


def test_a_revision_for_every_change_and_none_without(live):
    assert promote(live, {1: 1})
    revision = live.table.revision
    live.publish([], 0)
    settled = live.table.revision
    assert not live.publish([], 0)
    assert live.table.revision == settled >= revision


def test_a_name_that_is_gone_is_gone(live):
    promote(live, {1: 1})
    live.set_document("support", None)
    live.publish([], 0)
    assert live.table.aliases == {}


def test_while_a_version_is_pending_what_replicas_hold_of_history_answers_and_stays(live):
    """As for a new controller in the middle of a promotion."""
    for replica in "ab":
        live.set_replica(replica, {"support-1": None}, {}, 0)
    promote(live, {1: 1}, {2: 1}, checked=())
    assert live.unchecked == {("support", 1), ("support", 2)}
    promote(live, {1: 1}, {2: 1})
    assert state(live) == ("pending", {1: 1})
    assert sorted(v.version for v in live.pinned) == [1, 2]


def test_on_a_cold_start_nothing_older_than_what_is_pending_answers(live):
    live.set_replica("a", {}, {}, 0)
    promote(live, {1: 1}, {2: 1})
    assert state(live) == ("pending", {})


def test_a_version_that_spoils_its_answers_gives_way_to_the_one_before(live):
    live.set_replica("a", {"support-1": None, "support-2": None}, {}, 0)
    promote(live, {1: 1}, {2: 1})
    assert state(live) == ("live", {2: 1})
    live.set_replica("a", {"support-1": None, "support-2": "its answers are not finite"}, {}, 0)
    live.publish([], 0)
    assert state(live) == ("refused", {1: 1})
    assert live.table.aliases["support", "production"].reason == "version 2: its answers are not finite"


def test_only_what_a_replica_holds_is_news(live):
    assert live.set_replica("a", {}, None, 0)
    assert not live.set_replica("a", {}, None, 1)
    assert live.set_replica("a", {"support-1": None}, None, 1)
