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

from llama_platform.artifacts.repository import ArtifactRepository
from llama_platform.errors import IntegrityError

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State after `step` optimizer steps; tensors are float32, by parameter name."""

    step: int
    weights: dict[str, torch.Tensor]
    moments: dict[str, dict[str, torch.Tensor]]
    progress: dict[str, Any]
    """What the loop needs besides: tokens seen, evaluations so far, the run's fixed sizes."""


def save_checkpoint(repository: ArtifactRepository, run_id: str, checkpoint: Checkpoint) -> int:
    """Commit a checkpoint and return its version.

    Raises:
        StorageError: it could not be written whole; nothing is committed then.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save_file(checkpoint.weights, folder / "adapter.safetensors")
        for name in MOMENTS:
            save_file(checkpoint.moments[name], folder / f"{name}.safetensors")
        (folder / "progress.json").write_text(json.dumps(checkpoint.progress), encoding="utf-8")
        return repository.publish("checkpoint", run_id, folder, {"step": checkpoint.step}).version


def newest_checkpoint(repository: ArtifactRepository, run_id: str) -> Checkpoint | None:
    """Return the newest committed checkpoint of a run, or None before the first.

    Raises:
        IntegrityError: it is damaged.
    """
    if not repository.versions("checkpoint", run_id):
        return None
    version = repository.latest("checkpoint", run_id)
    folder = repository.fetch(version)
    step = repository.manifest(version).metadata.get("step")
    if not isinstance(step, int):
        raise IntegrityError(f"{repository.uri(version)}: no step in the manifest")
    return Checkpoint(
        step,
        load_file(folder / "adapter.safetensors"),
        {name: load_file(folder / f"{name}.safetensors") for name in MOMENTS},
        json.loads((folder / "progress.json").read_text(encoding="utf-8")),
    )
