"""Conduct: starts canaries, carries out verdicts on the alias, and ends them. Every step is in the audit trail.

A verdict is written down as an intent before the alias is changed and the outcome after it, so that whoever dies
between them leaves what the next one does again, to the same end.
"""

from datetime import UTC, datetime
from typing import Any

from llama_platform.artifacts.aliases import AliasDocument, Aliases
from llama_platform.artifacts.repository import ArtifactRepository
from llama_platform.audit.acts import acted
from llama_platform.canary.counts import SplitKey, counts_folder, read_counts
from llama_platform.canary.judge import judge
from llama_platform.canary.plan import Canary, CanaryPlan, Period, Status, canary_document
from llama_platform.errors import ConflictError, NotFoundError

ENDS: dict[str, Status] = {"promote": "promoted", "roll_back": "rolled_back", "stop": "stopped"}
SUPERSEDED: tuple[Status, str] = ("superseded", "the alias was changed by somebody else")


class Conductor:
    """The canary of one alias of an adapter."""

    def __init__(self, repository: ArtifactRepository, name: str, alias: str) -> None:
        """Work on an alias; nothing is read yet."""
        self._repository, self._name, self._alias = repository, name, alias
        self._aliases = Aliases(repository, "adapter", name)
        self._document = canary_document(repository.store, name, alias)
        self._what = f"the canary of {name}@{alias}"

    def read(self) -> Canary:
        """Return the newest canary.

        Raises:
            NotFoundError: there was none.
        """
        found = self._document.read()
        if found.status == "none":
            raise NotFoundError(f"adapter '{self._name}': alias '{self._alias}' never had a canary")
        return found

    def start(self, candidate: int, plan: CanaryPlan) -> Canary:
        """Give a version its first share of the alias's traffic.

        Raises:
            NotFoundError: there is no such version, or the alias is not set.
            ConflictError: a canary runs, or the alias splits its traffic or points at this version already.
        """
        _refuse_beside(self._document.read(), self._what)
        self._repository.version("adapter", self._name, candidate)
        document = self._aliases.read()
        targets = document.aliases.get(self._alias)
        if targets is None:
            raise NotFoundError(f"adapter '{self._name}' has no alias '{self._alias}'; promote a version first")
        if len(targets) != 1:
            raise ConflictError(f"{self._name}@{self._alias} splits its traffic; promote one version first")
        if (present := targets[0].version) == candidate:
            raise ConflictError(f"{self._name}@{self._alias} points at version {candidate} already")
        begun = Canary(
            status="running", name=self._name, alias=self._alias, present=present, candidate=candidate, plan=plan,
            since=document.pointed_at(self._alias), started=datetime.now(UTC), intent="advance",
        )  # fmt: skip

        def change(document: Canary) -> Canary:
            _refuse_beside(document, self._what)
            return begun

        self._document.update(change, self._what)
        self._act("start", shares=list(plan.shares), requests=plan.requests)
        try:
            return self._carry_out(begun)
        except ConflictError:  # another alias was changed at the same moment: the application's next look goes on
            return self._document.read()

    def step(self) -> Canary:
        """Look at what was counted, and do what it says; nothing where no canary runs."""
        try:
            return self._step()
        except ConflictError:  # somebody else changed an alias at the same moment: the next look sees what is
            return self._document.read()

    def _step(self) -> Canary:
        canary = self._document.read()
        if canary.status != "running":
            return canary
        if canary.intent is not None:
            return self._carry_out(canary)
        if self._aliases.read().pointed_at(self._alias) != canary.generation:
            return self._end(canary, *SUPERSEDED)
        counts = [read_counts(self._repository.store, self._split(period.generation)) for period in canary.periods]
        verdict = judge(canary, counts)
        if verdict.action == "wait":
            return self._write(canary, verdict.canary) if verdict.canary != canary else canary
        judged = verdict.canary.model_copy(update={"intent": verdict.action, "reason": verdict.reason})
        return self._carry_out(self._write(canary, judged))

    def refuse(self, reason: str) -> Canary:
        """Roll back a canary whose version no replica will answer with.

        Args:
            reason: why.
        """
        canary = self._document.read()
        if canary.status != "running" or canary.intent is not None:
            return canary
        refused = canary.model_copy(update={"intent": "roll_back", "reason": reason})
        return self._carry_out(self._write(canary, refused))

    def stop(self) -> Canary:
        """End the canary, with all traffic back at the present version.

        Raises:
            NotFoundError: none runs.
        """
        canary = self.read()
        if canary.status != "running":
            raise NotFoundError(f"{self._what} has ended: {canary.status}")
        update = {"intent": "stop", "reason": "stopped by hand"}
        stopping = self._document.update(
            lambda document: document.model_copy(update=update) if document.status == "running" else document,
            self._what,
        )
        return self._carry_out(stopping) if stopping.status == "running" else stopping

    def _carry_out(self, canary: Canary) -> Canary:
        """Do what the intent says; doing it twice changes nothing more."""
        if canary.intent is None:  # somebody else has done it meanwhile
            return canary
        if canary.intent == "advance":
            share = canary.plan.shares[len(canary.periods)]
            document = self._point(canary, {canary.present: 100 - share, canary.candidate: share})
            if document is None:
                return self._end(canary, *SUPERSEDED)
            period = Period(generation=document.pointed_at(self._alias), share=share)
            after = canary.model_copy(update={"periods": (*canary.periods, period), "intent": None})
            self._act("advance", share=share)
            return self._write(canary, after)
        if self._point(canary, {canary.candidate if canary.intent == "promote" else canary.present: 1}) is None:
            return self._end(canary, *SUPERSEDED)
        return self._end(canary, ENDS[canary.intent], canary.reason)

    def _point(self, canary: Canary, weights: dict[int, int]) -> AliasDocument | None:
        """Point the alias at versions, unless it does already; None where it is not where the canary left it.

        Raises:
            ConflictError: another alias of the adapter was changed at the same moment.
        """
        document = self._aliases.read()
        if {target.version: target.weight for target in document.aliases.get(self._alias, ())} == weights:
            return document
        if document.pointed_at(self._alias) != canary.generation:
            return None
        if len(weights) == 1:  # a rollback from here leads to what was before the canary, not into its steps
            (version,) = weights
            if version == canary.present:
                try:
                    return self._aliases.restore(self._alias, canary.since, document.generation)
                except NotFoundError:  # so many changes since that history has forgotten it
                    return self._aliases.promote(self._alias, version, document.generation)
            return self._aliases.promote(self._alias, version, document.generation, canary.since)
        return self._aliases.split(self._alias, weights, document.generation)

    def _end(self, canary: Canary, status: Status, reason: str) -> Canary:
        update = {"status": status, "reason": reason, "intent": None, "ended": datetime.now(UTC)}
        after = canary.model_copy(update=update)
        ended = self._write(canary, after)
        if ended is after:
            for period in canary.periods:
                for key in list(self._repository.store.list_keys(counts_folder(self._split(period.generation)))):
                    self._repository.store.delete(key)  # what was counted is in the document
            self._act(status, version=canary.candidate, present=canary.present, reason=reason)
        return ended

    def _write(self, before: Canary, after: Canary) -> Canary:
        """Write the next state, unless somebody else has written one meanwhile: then return that."""
        return self._document.update(lambda document: after if document == before else document, self._what)

    def _split(self, generation: int) -> SplitKey:
        return SplitKey(self._name, self._alias, generation)

    def _act(self, what: str, **facts: Any) -> None:
        acted(self._repository.store, f"canary.{what}", adapter=self._name, alias=self._alias, **facts)


def _refuse_beside(document: Canary, what: str) -> None:
    if document.status == "running":
        raise ConflictError(f"{what} of version {document.candidate} runs; stop it first")
