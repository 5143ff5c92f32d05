"""Live aliases: which versions answer, given what aliases say, what checks found, and what replicas hold.

A function of values: no clock, no store, no actors. An alias whose new targets are not fit keeps the old ones; one that
was never live falls back to the newest of its history that is fit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llama_platform.artifacts.aliases import AliasDocument, Target
from llama_platform.artifacts.repository import ArtifactVersion

Status = Literal["live", "pending", "refused"]
Holding = Mapping[str, str | None]
"""By digest: None where a replica holds the version, else why it will not."""


@dataclass(frozen=True, slots=True)
class RouteTarget:
    """A version that answers, and its share."""

    version: ArtifactVersion
    weight: int


@dataclass(frozen=True, slots=True)
class Route:
    """What answers under an alias, and what became of what it was pointed at."""

    name: str
    alias: str
    targets: tuple[RouteTarget, ...]
    """In force; empty where nothing was ever fit to answer."""
    status: Status
    """Of what the alias points at: whether that is in force, still being loaded, or refused."""
    wanted: tuple[Target, ...]
    """What the alias points at."""
    reason: str | None = None
    """Why it is refused."""


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Everything that is in force, as the ingress sees it."""

    revision: int = 0
    aliases: Mapping[tuple[str, str], Route] = field(default_factory=dict)
    """By name and alias."""
    replicas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What each ready replica last said of itself."""


@dataclass(slots=True)
class _Replica:
    seen_at: float
    holding: Holding
    facts: Mapping[str, Any]


class Reconciler:
    """The state behind a table, for one kind of artifact."""

    def __init__(self, lease_s: float, most_pinned: int) -> None:
        """Start empty.

        Args:
            lease_s: how long a replica counts that says nothing.
            most_pinned: versions that replicas are asked to hold; the rest they load when a request comes.
        """
        self._lease_s, self._most_pinned = lease_s, most_pinned
        self._documents: dict[str, AliasDocument] = {}
        self._checked: dict[tuple[str, int], ArtifactVersion | str] = {}
        self._replicas: dict[str, _Replica] = {}
        self._live: dict[tuple[str, str], Route] = {}
        self._unchecked: set[tuple[str, int]] = set()
        self._pinned: tuple[ArtifactVersion, ...] = ()
        self._table = RoutingTable()

    @property
    def table(self) -> RoutingTable:
        """Return what was last published."""
        return self._table

    @property
    def pinned(self) -> tuple[ArtifactVersion, ...]:
        """Return the versions that replicas are to hold, most important first."""
        return self._pinned

    @property
    def unchecked(self) -> frozenset[tuple[str, int]]:
        """Return (name, version) of what must be checked before it can answer."""
        return frozenset(self._unchecked)

    def set_document(self, name: str, document: AliasDocument | None) -> None:
        """Take note of what a name's aliases say; None where it has none."""
        if document is None:
            self._documents.pop(name, None)
        else:
            self._documents[name] = document

    def set_checked(self, name: str, number: int, outcome: ArtifactVersion | str) -> None:
        """Take note of the check of a version: itself, or why it must not answer."""
        self._checked[name, number] = outcome

    def set_replica(self, replica: str, holding: Holding, facts: Mapping[str, Any], now: float) -> None:
        """Take note of what a replica holds, and says of itself."""
        self._replicas[replica] = _Replica(now, holding, facts)

    def publish(self, order: Iterable[str], now: float) -> bool:
        """Decide anew, and return whether the table or what replicas are to hold has changed.

        Args:
            order: names, most important first; these are pinned before the others.
            now: in seconds, on the clock of `set_replica`.
        """
        self._replicas = {r: state for r, state in self._replicas.items() if now - state.seen_at <= self._lease_s}
        self._unchecked.clear()
        ranked = dict.fromkeys([*(name for name in order if name in self._documents), *sorted(self._documents)])
        pinned = self._pin(ranked)
        live = {}
        for name in ranked:
            document = self._documents[name]
            for alias, wanted in document.aliases.items():
                live[name, alias] = self._decide(name, alias, wanted, document, {v.digest for v in pinned})
        changed = live != self._live or pinned != self._pinned
        self._live, self._pinned = live, pinned
        facts = {replica: state.facts for replica, state in self._replicas.items()}
        self._table = RoutingTable(self._table.revision + changed, live, facts)
        return changed

    def _pin(self, names: Iterable[str]) -> tuple[ArtifactVersion, ...]:
        found: dict[str, ArtifactVersion] = {}
        for name in names:
            for alias, wanted in self._documents[name].aliases.items():
                known = self._live.get((name, alias))
                for version in (target.version for target in (known.targets if known else ())):
                    found.setdefault(version.digest, version)
                for target in wanted:
                    checked = self._checked.get((name, target.version))
                    if isinstance(checked, ArtifactVersion):
                        found.setdefault(checked.digest, checked)
            if len(found) >= self._most_pinned:
                break
        return tuple(found.values())[: self._most_pinned]

    def _decide(
        self, name: str, alias: str, wanted: tuple[Target, ...], document: AliasDocument, pinned: set[str]
    ) -> Route:
        found = self._judge(name, wanted, pinned)
        if isinstance(found, tuple):
            return Route(name, alias, found, "live", wanted)
        known = self._live.get((name, alias))
        in_force = known.targets if known else ()
        if found is None:
            return Route(name, alias, in_force, "pending", wanted)
        return Route(name, alias, in_force or self._fallback(name, alias, document, pinned), "refused", wanted, found)

    def _fallback(self, name: str, alias: str, document: AliasDocument, pinned: set[str]) -> tuple[RouteTarget, ...]:
        for entry in reversed(document.history):
            if entry.alias == alias and isinstance(found := self._judge(name, entry.targets, pinned), tuple):
                return found
        return ()

    def _judge(self, name: str, targets: Iterable[Target], pinned: set[str]) -> tuple[RouteTarget, ...] | str | None:
        """Return the targets if all are fit, None if that is not known yet, or why one is not."""
        found, waiting = [], False
        for target in targets:
            checked = self._checked.get((name, target.version))
            if isinstance(checked, str):
                return f"version {target.version}: {checked}"
            if checked is None:
                self._unchecked.add((name, target.version))
                waiting = True
                continue
            for replica in self._replicas.values():
                answer = replica.holding.get(checked.digest, "unknown")
                if answer == "unknown":
                    waiting = waiting or checked.digest in pinned
                elif answer is not None:
                    return f"version {target.version}: {answer}"
            found.append(RouteTarget(checked, target.weight))
        return None if waiting else tuple(found)
