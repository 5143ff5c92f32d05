"""Checkpoints: adapter weights, optimizer moments and position, free of the number of workers.

They are artifacts of the run, committed file by file, manifest, commit record; a run resumes from the newest.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.errors import IntegrityError

MOMENTS = ("exp_avg", "exp_avg_sq")
WEIGHTS_FILE = "adapter.safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State after `step` optimizer steps; tensors are float32, by parameter name."""

    step: int
    weights: dict[str, torch.Tensor]
    moments: dict[str, dict[str, torch.Tensor]]
    progress: dict[str, Any]
    """What the loop needs besides: tokens seen, evaluations so far, the run's fixed sizes."""
    eval_loss: float | None = None
    """Held-out loss of these weights, where it was measured."""


def save_checkpoint(repository: ArtifactRepository, run_id: str, checkpoint: Checkpoint) -> int:
    """Commit a checkpoint and return its version.

    Raises:
        StorageError: it could not be written whole; nothing is committed then.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save_file(checkpoint.weights, folder / WEIGHTS_FILE)
        for name in MOMENTS:
            save_file(checkpoint.moments[name], folder / f"{name}.safetensors")
        (folder / "progress.json").write_text(json.dumps(checkpoint.progress), encoding="utf-8")
        facts = {"step": checkpoint.step, "eval_loss": checkpoint.eval_loss}
        return repository.publish("checkpoint", run_id, folder, facts).version


def newest_checkpoint(repository: ArtifactRepository, run_id: str) -> Checkpoint | None:
    """Return the newest committed checkpoint of a run, or None before the first.

    Raises:
        IntegrityError: it is damaged.
    """
    if not repository.versions("checkpoint", run_id):
        return None
    version = repository.latest("checkpoint", run_id)
    folder, facts = repository.fetch(version), repository.manifest(version).metadata
    return Checkpoint(
        _step(repository, version),
        load_file(folder / WEIGHTS_FILE),
        {name: load_file(folder / f"{name}.safetensors") for name in MOMENTS},
        json.loads((folder / "progress.json").read_text(encoding="utf-8")),
        facts.get("eval_loss"),
    )


def best_weights(repository: ArtifactRepository, run_id: str) -> dict[str, torch.Tensor] | None:
    """Return the weights with the lowest held-out loss among the checkpoints, or None if none was measured."""
    best = _best(_listed(repository, run_id))
    return load_file(repository.fetch(best) / WEIGHTS_FILE) if best else None


def prune_checkpoints(repository: ArtifactRepository, run_id: str, keep: int) -> None:
    """Delete a run's checkpoints but the newest `keep` and the one with the lowest held-out loss."""
    listed = _listed(repository, run_id)
    best = _best(listed)
    for version, _ in listed[:-keep]:
        if version != best:
            repository.delete(version)


def _listed(repository: ArtifactRepository, run_id: str) -> list[tuple[ArtifactVersion, float | None]]:
    """Return the checkpoints with their held-out losses, oldest first."""
    versions = [repository.version("checkpoint", run_id, n) for n in repository.versions("checkpoint", run_id)]
    return [(version, repository.manifest(version).metadata.get("eval_loss")) for version in versions]


def _best(listed: list[tuple[ArtifactVersion, float | None]]) -> ArtifactVersion | None:
    measured = [(loss, version.version, version) for version, loss in listed if loss is not None]
    return min(measured)[2] if measured else None


def _step(repository: ArtifactRepository, version: ArtifactVersion) -> int:
    step = repository.manifest(version).metadata.get("step")
    if not isinstance(step, int):
        raise IntegrityError(f"{repository.uri(version)}: no step in the manifest")
    return step
