"""RoutingTable: which versions answer under which alias, as the controller publishes it and the ingress reads it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llama_platform.artifacts.aliases import Target
from llama_platform.artifacts.manifest import ArtifactKind
from llama_platform.artifacts.repository import ArtifactVersion
from serve_apps.routing.replica_status import ReplicaStatus

KINDS: tuple[ArtifactKind, ...] = ("adapter", "index")
"""Kinds of artifacts with routes."""
RouteStatus = Literal["live", "pending", "refused"]


@dataclass(frozen=True, slots=True)
class RouteTarget:
    """A version that answers, and its share of the requests."""

    version: ArtifactVersion
    weight: int


@dataclass(frozen=True, slots=True)
class Route:
    """Versions that answer under an alias, and the state of what the alias points at."""

    name: str
    alias: str
    targets: tuple[RouteTarget, ...]
    """Versions that answer now; empty where none was ever fit to."""
    status: RouteStatus
    """Whether what the alias points at answers, is still being loaded, or is refused."""
    wanted: tuple[Target, ...]
    """Versions that the alias points at."""
    reason: str | None = None
    """Why they are refused."""
    generation: int = 0
    """Count of the changes of this name's aliases so far."""
    since: int = 0
    """The one of them in which this alias came to point where it does."""
    canary: bool = False
    """Whether a canary has a share: each request is drawn by itself, and what it comes to is counted."""


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """All routes of one kind of artifact."""

    revision: int = 0
    """Changes with every change of the routes."""
    aliases: Mapping[tuple[str, str], Route] = field(default_factory=dict)
    """Routes by name and alias."""
    replicas: Mapping[str, ReplicaStatus | None] = field(default_factory=dict)
    """Last status of each ready replica, by its id; None of replicas that report none."""
    store_problem: str | None = None
    """Why the store cannot be read at present; None where it can."""
