"""Reconciler: routes out of what aliases say (desired), what checks found, and what replicas hold (observed).

A function of values: no clock, no store, no actors. An alias whose new targets are not fit, or not known to be yet,
keeps the old ones; where there are none, or these have shown themselves unfit, the newest of its history that is fit
answers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from llama_platform.artifacts.aliases import AliasDocument, Target
from llama_platform.artifacts.repository import ArtifactVersion
from serve_apps.routing.replica_status import ReplicaStatus
from serve_apps.routing.table import Route, RouteStatus, RouteTarget, RoutingTable

Holding = Mapping[str, str | None]
"""By digest: None where a replica holds the version, else why it will not."""


@dataclass(slots=True)
class _Replica:
    seen_at: float
    holding: Holding
    status: ReplicaStatus | None


class Reconciler:
    """The state behind a table, for one kind of artifact."""

    def __init__(self, lease_s: float, most_pinned: int) -> None:
        """Begin without routes.

        Args:
            lease_s: seconds for which a silent replica still counts.
            most_pinned: number of versions that replicas are asked to hold; they load others when requests come.
        """
        self._lease_s, self._most_pinned = lease_s, most_pinned
        self._documents: dict[str, AliasDocument] = {}
        self._checked: dict[tuple[str, int], ArtifactVersion | str] = {}
        self._replicas: dict[str, _Replica] = {}
        self._live: dict[tuple[str, str], Route] = {}
        self._inherited: dict[tuple[str, str], Route] = {}
        self._unchecked: set[tuple[str, int]] = set()
        self._pinned: tuple[ArtifactVersion, ...] = ()
        self._canaries: frozenset[tuple[str, str]] = frozenset()
        self._table = RoutingTable()

    @property
    def table(self) -> RoutingTable:
        """Routes and replicas as last published."""
        return self._table

    def table_now(self) -> RoutingTable:
        """Return the routes as last published, with what replicas have said since."""
        return replace(self._table, replicas={replica: state.status for replica, state in self._replicas.items()})

    @property
    def pinned(self) -> tuple[ArtifactVersion, ...]:
        """Versions that every replica should keep loaded, highest priority first."""
        return self._pinned

    @property
    def unchecked(self) -> frozenset[tuple[str, int]]:
        """Name and number of each version that must be checked before it can answer."""
        return frozenset(self._unchecked)

    def set_document(self, name: str, document: AliasDocument | None) -> None:
        """Set what a name's aliases say; None where it has none."""
        for key in [key for key in self._inherited if key[0] == name]:
            del self._inherited[key]  # the store's own word counts more
        if document is None:
            self._documents.pop(name, None)
        else:
            self._documents[name] = document

    def set_canaries(self, running: Iterable[tuple[str, str]]) -> None:
        """Set the names and aliases that a canary has a share of."""
        self._canaries = frozenset(running)

    def set_checked(self, name: str, number: int, outcome: ArtifactVersion | str) -> None:
        """Set the outcome of the check of a version: the version itself, or why it must not answer."""
        self._checked[name, number] = outcome

    def set_replica(self, replica: str, holding: Holding, status: ReplicaStatus | None, now: float) -> bool:
        """Set what a replica holds, and its status; return whether there is something new to publish.

        Args:
            replica: id of the replica.
            holding: versions that it holds, has given up or cannot load.
            status: its own figures; None if it tells none.
            now: seconds of a monotonic clock; a replica that is silent for the lease is forgotten.
        """
        before = self._replicas.get(replica)
        self._replicas[replica] = _Replica(now, holding, status)
        return before is None or before.holding != holding

    def inherit(self, routes: Iterable[Route]) -> None:
        """Go on with routes of an earlier reconciler, each until the store says something of its name."""
        for route in routes:
            if route.name not in self._documents:
                self._inherited.setdefault((route.name, route.alias), route)

    def publish(self, order: Iterable[str], now: float) -> bool:
        """Decide again, and return whether the table or what replicas should hold has changed.

        Args:
            order: names, most important first; these are pinned before the others.
            now: seconds on the clock of `set_replica`.
        """
        self._replicas = {r: state for r, state in self._replicas.items() if now - state.seen_at <= self._lease_s}
        self._unchecked.clear()
        ranked = dict.fromkeys([*(name for name in order if name in self._documents), *sorted(self._documents)])
        pinned = self._pin(ranked)
        live = dict(self._inherited)
        for name in ranked:
            document = self._documents[name]
            for alias, wanted in document.aliases.items():
                live[name, alias] = self._decide(name, alias, wanted, document, {v.digest for v in pinned})
        changed = live != self._live or pinned != self._pinned
        self._live, self._pinned = live, pinned
        replicas = {replica: state.status for replica, state in self._replicas.items()}
        self._table = RoutingTable(self._table.revision + changed, live, replicas)
        return changed

    def _pin(self, names: Iterable[str]) -> tuple[ArtifactVersion, ...]:
        found: dict[str, ArtifactVersion] = {}
        for route in self._inherited.values():
            found |= {target.version.digest: target.version for target in route.targets}
        for name in names:
            for alias, wanted in self._documents[name].aliases.items():
                known = self._live.get((name, alias))
                for version in (target.version for target in (known.targets if known else ())):
                    found.setdefault(version.digest, version)
                for target in wanted:
                    checked = self._checked.get((name, target.version))
                    if isinstance(checked, ArtifactVersion):
                        found.setdefault(checked.digest, checked)
                if known is None or not known.targets:
                    for fit in self._fallback(name, alias, self._documents[name], set(found), held=True):
                        found.setdefault(fit.version.digest, fit.version)
            if len(found) >= self._most_pinned:
                break
        return tuple(found.values())[: self._most_pinned]

    def _decide(
        self, name: str, alias: str, wanted: tuple[Target, ...], document: AliasDocument, pinned: set[str]
    ) -> Route:
        found = self._judge(name, wanted, pinned)
        if isinstance(found, tuple):
            canary = (name, alias) in self._canaries and len(found) > 1
            since = document.pointed_at(alias)
            return Route(name, alias, found, "live", wanted, None, document.generation, since, canary)
        known = self._live.get((name, alias))
        current = known.targets if known and not self._spoiled(known.targets) else ()
        targets = current or self._fallback(name, alias, document, pinned, held=found is None)
        status: RouteStatus = "pending" if found is None else "refused"
        since = document.pointed_at(alias)
        return Route(name, alias, targets, status, wanted, found, document.generation, since)

    def _spoiled(self, targets: Iterable[RouteTarget]) -> bool:
        """Tell whether a replica will not answer with one of these any more."""
        digests = [target.version.digest for target in targets]
        return any(state.holding.get(d) is not None for state in self._replicas.values() for d in digests)

    def _fallback(
        self, name: str, alias: str, document: AliasDocument, pinned: set[str], *, held: bool
    ) -> tuple[RouteTarget, ...]:
        """Return the newest targets of an alias's history that are fit; with `held`, that every replica holds."""
        for entry in reversed(document.history):
            if entry.alias != alias or entry.targets == document.aliases[alias]:
                continue
            found = self._judge(name, entry.targets, pinned)
            if isinstance(found, tuple) and (not held or all(self._is_held(target.version) for target in found)):
                return found
            if any((name, target.version) in self._unchecked for target in entry.targets):
                return ()  # the check of what is newer comes first
        return ()

    def _is_held(self, version: ArtifactVersion) -> bool:
        answers = [state.holding.get(version.digest, "unknown") for state in self._replicas.values()]
        return bool(answers) and not any(answers)

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
