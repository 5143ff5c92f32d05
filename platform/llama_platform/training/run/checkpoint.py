"""Checkpoints: adapter weights, optimizer moments and position, free of the number of workers.

They are artifacts of the run, committed file by file, manifest, commit record; a run resumes from the newest.
"""

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.errors import IntegrityError
from llama_platform.training.zero.state import MOMENTS

log = logging.getLogger(__name__)
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
    """Return the newest whole checkpoint of a run, or None before the first; damaged ones are logged.

    Raises:
        IntegrityError: the run has checkpoints, and all are damaged: to start anew would lose them in silence.
    """
    numbers = repository.versions("checkpoint", run_id)
    for number in reversed(numbers):
        try:
            return _read(repository, repository.version("checkpoint", run_id, number))
        except IntegrityError as error:
            log.error(
                "a checkpoint is damaged; the one before is taken",
                extra={"run": run_id, "version": number, "reason": str(error)},
            )
    if numbers:
        raise IntegrityError(f"run {run_id}: all {len(numbers)} checkpoints are damaged; use another training.run_id")
    return None


def best_weights(repository: ArtifactRepository, run_id: str) -> dict[str, torch.Tensor] | None:
    """Return the weights with the lowest held-out loss among the checkpoints, float32 by parameter name.

    None if no held-out loss was measured.

    Raises:
        IntegrityError: these weights are damaged.
    """
    best = _best(_listed(repository, run_id))
    if best is None:
        return None
    with repository.fetched(best) as folder:
        return load_file(folder / WEIGHTS_FILE)


def prune_checkpoints(repository: ArtifactRepository, run_id: str, keep: int) -> None:
    """Delete a run's whole checkpoints but the newest `keep` and the one with the lowest held-out loss.

    Damaged ones are logged and stay: they may be wanted to see what happened.
    """
    listed = _listed(repository, run_id)
    best = _best(listed)
    for version, _ in listed[:-keep]:
        if version != best:
            repository.delete(version)


def _listed(repository: ArtifactRepository, run_id: str) -> list[tuple[ArtifactVersion, float | None]]:
    """Return the checkpoints whose manifests are whole, with their held-out losses, oldest first."""
    listed = []
    for number in repository.versions("checkpoint", run_id):
        try:
            version = repository.version("checkpoint", run_id, number)
            listed.append((version, repository.manifest(version).metadata.get("eval_loss")))
        except IntegrityError as error:
            log.warning(
                "a damaged checkpoint is passed over", extra={"run": run_id, "version": number, "reason": str(error)}
            )
    return listed


def _read(repository: ArtifactRepository, version: ArtifactVersion) -> Checkpoint:
    with repository.fetched(version) as folder:
        return Checkpoint(
            _step(repository, version),
            load_file(folder / WEIGHTS_FILE),
            {name: load_file(folder / f"{name}.safetensors") for name in MOMENTS},
            json.loads((folder / "progress.json").read_text(encoding="utf-8")),
            repository.manifest(version).metadata.get("eval_loss"),
        )


def _best(listed: list[tuple[ArtifactVersion, float | None]]) -> ArtifactVersion | None:
    measured = [(loss, version.version, version) for version, loss in listed if loss is not None]
    return min(measured)[2] if measured else None


def _step(repository: ArtifactRepository, version: ArtifactVersion) -> int:
    step = repository.manifest(version).metadata.get("step")
    if not isinstance(step, int):
        raise IntegrityError(f"{repository.uri(version)}: no step in the manifest")
    return step
