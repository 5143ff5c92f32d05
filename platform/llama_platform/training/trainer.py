"""Trainer: from a configuration to a finished run, on whatever Ray cluster this process is connected to."""

import json
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import ray
import yaml
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from llama_platform.artifacts.location import absolute, repository_from
from llama_platform.artifacts.manifest import check_name
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.errors import NotFoundError, TrainingError
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.loop import Progress, train_loop
from llama_platform.training.metrics import MetricsBoard
from llama_platform.training.order import accumulation_for

log = logging.getLogger(__name__)
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a finished run has made."""

    run_id: str
    adapter: ArtifactVersion
    uri: str
    steps: int
    workers: int
    loss_first: float
    loss_last: float
    eval_loss: float | None
    tokens: int
    tokens_per_s: float


def finetune(config: FinetuneConfig, on_metrics: Callable[[dict[str, Any]], None]) -> RunResult:
    """Train an adapter on the configured dataset and publish it; blocks until the run ends.

    Args:
        config: the whole configuration.
        on_metrics: called in this process with the metrics of every step.

    Raises:
        NotFoundError: there is no such dataset.
        InputError: the cluster is too small, or sizes do not divide.
        TrainingError: the workers failed more often than allowed.
    """
    config = config.model_copy(update={"store": absolute(config.store, os.environ)})
    repository = repository_from(config.store, os.environ)
    run_id = check_name(config.training.run_id or new_run_id(), "training.run_id")
    dataset = find_dataset(repository, config)
    training = config.training
    size = config.global_batch_size()
    accumulation_for(size, training.micro_batch_size, training.workers)
    _check_resources(config)
    repository.store.write(f"runs/{run_id}/config.yaml", yaml.safe_dump(config.model_dump(mode="json")).encode())
    board = ray.remote(num_cpus=0)(MetricsBoard).remote()
    arguments = {
        "config": config.model_dump(mode="json"),
        "run_id": run_id,
        "dataset_version": dataset.version,
        "progress": asdict(Progress(size)),
        "board": board,
    }
    with _watched(board, on_metrics) as records:
        result = _fit(config, run_id, arguments)
    if result["steps"] == 0:
        raise TrainingError(f"run {run_id}: no optimizer step was made")
    lines = "".join(json.dumps(values) + "\n" for values in records)
    repository.store.write(f"runs/{run_id}/metrics.jsonl", lines.encode())
    adapter = repository.version("adapter", result["adapter"]["name"], result["adapter"]["version"])
    return RunResult(
        run_id=run_id,
        adapter=adapter,
        uri=result["uri"],
        steps=result["steps"],
        workers=result["workers"],
        loss_first=result["loss_first"],
        loss_last=result["loss_last"],
        eval_loss=result["eval_loss"],
        tokens=result["tokens"],
        tokens_per_s=records[-1]["tokens_per_s"] if records else 0.0,
    )


def find_dataset(repository: ArtifactRepository, config: FinetuneConfig) -> ArtifactVersion:
    """Return the dataset version that the configuration names.

    Raises:
        NotFoundError: it was never prepared.
    """
    name, number = config.data.name, config.training.dataset_version
    try:
        return repository.version("dataset", name, number) if number else repository.latest("dataset", name)
    except NotFoundError as error:
        raise NotFoundError(f"{error}; run jobs.prepare_data first, with the same data.name and store") from error


def new_run_id() -> str:
    """Return a name that no other run has."""
    return f"run-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _fit(config: FinetuneConfig, run_id: str, arguments: dict[str, Any]) -> dict[str, Any]:
    training = config.training
    resources = {"CPU": training.cpus_per_worker} | ({"GPU": 1} if training.use_gpu else {})
    with tempfile.TemporaryDirectory(prefix="ray-train-") as scratch:
        trainer = TorchTrainer(
            train_loop,
            train_loop_config=arguments,
            torch_config=TorchConfig(backend="nccl" if training.use_gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=training.workers, use_gpu=training.use_gpu, resources_per_worker=resources
            ),
            run_config=RunConfig(
                name=run_id, storage_path=scratch, failure_config=FailureConfig(max_failures=training.max_failures)
            ),
        )
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise TrainingError(f"run {run_id} failed: {_innermost(error)}") from error
    if not isinstance(result.return_value, dict):
        raise TrainingError(f"run {run_id} ended without a result")
    return result.return_value


class _watched:
    """Reads the board in a thread while the run goes on, and once more at its end."""

    def __init__(self, board: Any, on_metrics: Callable[[dict[str, Any]], None]) -> None:
        self._board, self._on_metrics = board, on_metrics
        self._records: list[dict[str, Any]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="metrics", daemon=True)

    def __enter__(self) -> list[dict[str, Any]]:
        self._thread.start()
        return self._records

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._read()

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            self._read()

    def _read(self) -> None:
        for values in ray.get(self._board.read_from.remote(len(self._records))):
            self._records.append(values)
            self._on_metrics(values)


def _check_resources(config: FinetuneConfig) -> None:
    training = config.training
    if not training.use_gpu:
        cpus = ray.cluster_resources().get("CPU", 0)
        needed = training.workers * training.cpus_per_worker
        if cpus < needed:
            log.warning("the cluster is smaller than the run", extra={"cpus": cpus, "needed": needed})


def _innermost(error: BaseException) -> str:
    while (cause := error.__cause__) is not None:
        error = cause
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
