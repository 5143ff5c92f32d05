"""Canary: a version that proves itself on growing shares of an alias's traffic. The document, and where it is kept."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from llama_platform.artifacts.aliases import check_alias
from llama_platform.artifacts.manifest import check_name
from llama_platform.canary.counts import ROOT, Arms
from llama_platform.errors import InputError, IntegrityError
from llama_platform.storage.base import ObjectStore
from llama_platform.storage.document import StoredDocument

Share = Annotated[int, Field(ge=1, le=99)]
Status = Literal["none", "running", "promoted", "rolled_back", "stopped", "superseded"]
Guard = Literal["failed", "refused", "ungrounded", "unended", "disliked", "slow", "short", "long"]
GUARDS: dict[Guard, str] = {
    "failed": "answers that fail",
    "refused": "answers that rules or the moderator refuse",
    "ungrounded": "answers that their sources do not support",
    "unended": "answers that run into the bound on their length",
    "disliked": "answers that users rate down",
    "slow": "first tokens later than nine of ten of the present version's",
    "short": "answers shorter than nine of ten of the present version's",
    "long": "answers longer than nine of ten of the present version's",
}
"""What is counted against the candidate."""


class CanaryPlan(BaseModel):
    """What a canary is to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shares: Annotated[tuple[Share, ...], Field(min_length=1, max_length=10)] = (5, 20, 50)
    """Percent of the traffic that the candidate gets, step by step, the smallest first."""
    requests: Annotated[int, Field(ge=10, le=1_000_000)] = 200
    """Requests that the candidate answers in each step."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Probability that a candidate as good as the present version is rolled back, over all guards and looks."""
    guards: Annotated[tuple[Guard, ...], Field(min_length=1)] = tuple(GUARDS)
    """What is counted against the candidate."""

    @field_validator("shares")
    @classmethod
    def _growing(cls, shares: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(shares)))


class Limits(BaseModel):
    """From what on an answer is slow, short or long: buckets of histograms of the present version's answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slow_above: int
    short_below: int
    long_above: int


class Period(BaseModel):
    """A generation of the alias in which the candidate had one share of the traffic."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: int
    share: Share


class GuardState(BaseModel):
    """How one guard stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidate: int
    """Events of the candidate."""
    present: int
    """Events of the present version."""
    evidence: float
    """Logarithm of the evidence against the candidate; `needed` or more rolls it back."""


class Canary(BaseModel):
    """A canary of an alias, from its start to its verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Status = "none"
    name: str = ""
    alias: str = ""
    present: int = 0
    """Version that answered before."""
    since: int = 0
    """Generation in which the alias had come to point at it."""
    candidate: int = 0
    plan: CanaryPlan = CanaryPlan()
    periods: tuple[Period, ...] = ()
    limits: Limits | None = None
    """None until the present version has answered enough requests."""
    learned: Arms = {}
    """What the limits were learned from: it does not count for the guards that use them."""
    guards: dict[Guard, GuardState] = {}
    requests: dict[int, int] = {}
    """Requests by version, over all periods."""
    needed: float = 0.0
    """Logarithm of the evidence that rolls back."""
    reason: str = ""
    """Why it ended."""
    started: datetime | None = None
    ended: datetime | None = None
    intent: Literal["advance", "promote", "roll_back", "stop"] | None = None
    """What is being done to the alias; done again by whoever finds it here."""

    @property
    def generation(self) -> int:
        """Return the generation in which the canary, or its beginning, found or left the alias."""
        return self.periods[-1].generation if self.periods else self.since

    @property
    def share(self) -> int | None:
        """Return the candidate's percent of the traffic; None where it has none."""
        return self.periods[-1].share if self.periods and self.status == "running" else None


def canary_document(store: ObjectStore, name: str, alias: str) -> StoredDocument[Canary]:
    """Return the document of an alias's newest canary."""
    check_name(name, "name")
    return StoredDocument(store, f"{ROOT}/{name}/{check_alias(alias)}/canary.json", Canary)


def list_canaries(store: ObjectStore) -> list[Canary]:
    """Return the newest canary of every alias that had one.

    Raises:
        IntegrityError: a document is damaged.
    """
    found = [
        canary_document(store, name, alias).read()
        for name in store.list_folders(f"{ROOT}/")
        for alias in store.list_folders(f"{ROOT}/{name}/")
    ]
    return [canary for canary in found if canary.status != "none"]


def running_canaries(store: ObjectStore) -> tuple[list[Canary], list[str]]:
    """Return (the canaries that run, why others cannot be told)."""
    found, problems = list[Canary](), list[str]()
    for name in store.list_folders(f"{ROOT}/"):
        for alias in store.list_folders(f"{ROOT}/{name}/"):
            try:
                canary = canary_document(store, name, alias).read()
            except (IntegrityError, InputError) as error:
                problems.append(str(error))
            else:
                found += [canary] if canary.status == "running" else []
    return found, problems
