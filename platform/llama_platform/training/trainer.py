"""Trainer: from a configuration to a finished run, on whatever Ray cluster this process is connected to."""

import json
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
from llama_platform.errors import InputError, NotFoundError, PlatformError, TrainingError
from llama_platform.models.base_model import load_template
from llama_platform.training.config import FinetuneConfig, TrainingConfig
from llama_platform.training.loop import Progress, train_loop
from llama_platform.training.metrics import MetricsBoard

POLL_S = 0.5
START_TRIES = 30
"""How often Ray Train waits a minute for the workers' resources, before it gives up."""


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


def finetune(
    config: FinetuneConfig, on_metrics: Callable[[dict[str, Any]], None], *, may_grow: bool = False
) -> RunResult:
    """Train an adapter on the configured dataset and publish it; blocks until the run ends.

    Args:
        config: the whole configuration.
        on_metrics: called in this process with the metrics of every step.
        may_grow: whether the cluster may still get the nodes that the run needs.

    Raises:
        NotFoundError: there is no such dataset.
        InputError: the base cannot be found, the cluster is too small, or the run exists and is of something else.
        TrainingError: the workers failed more often than allowed.
    """
    config = config.model_copy(update={"store": absolute(config.store, os.environ)})
    repository = repository_from(config.store, os.environ)
    run_id = check_name(config.training.run_id or new_run_id(), "training.run_id")
    dataset = find_dataset(repository, config)
    load_template(config.base)  # what is wrong with the base shows here rather than in every worker
    if not may_grow:
        _check_resources(config.training)
    repository.store.write(f"runs/{run_id}/config.yaml", yaml.safe_dump(config.model_dump(mode="json")).encode())
    board = ray.remote(num_cpus=0)(MetricsBoard).remote()
    arguments = {
        "config": config.model_dump(mode="json"),
        "run_id": run_id,
        "dataset_version": dataset.version,
        "progress": asdict(Progress(config.global_batch_size())),
        "board": board,
    }
    records: list[dict[str, Any]] = []
    try:
        with _watched(board, on_metrics, records):
            result = _fit(config, run_id, arguments)
    finally:
        _append_metrics(repository, run_id, records)
    if result["steps"] == 0:
        raise TrainingError(f"run {run_id}: no optimizer step was made")
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
    failures = FailureConfig(max_failures=training.max_failures, controller_failure_limit=START_TRIES)
    resources = {"CPU": training.cpus_per_worker} | ({"GPU": 1} if training.use_gpu else {})
    with tempfile.TemporaryDirectory(prefix="ray-train-") as scratch:
        trainer = TorchTrainer(
            train_loop,
            train_loop_config=arguments,
            torch_config=TorchConfig(backend="nccl" if training.use_gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=training.workers, use_gpu=training.use_gpu, resources_per_worker=resources
            ),
            run_config=RunConfig(name=run_id, storage_path=scratch, failure_config=failures),
        )
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            cause = _cause(error)
            kind = type(cause) if isinstance(cause, PlatformError) else TrainingError
            raise kind(f"run {run_id} failed: {cause}") from error
    if not isinstance(result.return_value, dict):
        raise TrainingError(f"run {run_id} ended without a result")
    return result.return_value


class _watched:
    """Reads the board in a thread while the run goes on, and once more at its end."""

    def __init__(self, board: Any, on_metrics: Callable[[dict[str, Any]], None], records: list[dict[str, Any]]) -> None:
        self._board, self._on_metrics, self._records = board, on_metrics, records
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="metrics", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

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


def _append_metrics(repository: ArtifactRepository, run_id: str, records: list[dict[str, Any]]) -> None:
    key = f"runs/{run_id}/metrics.jsonl"
    try:
        before = repository.store.read(key).content
    except NotFoundError:
        before = b""
    repository.store.write(key, before + "".join(json.dumps(values) + "\n" for values in records).encode())


def _check_resources(training: TrainingConfig) -> None:
    needed = {"CPU": training.workers * training.cpus_per_worker, "GPU": training.workers * int(training.use_gpu)}
    there = ray.cluster_resources()
    for resource, amount in needed.items():
        if there.get(resource, 0) < amount:
            raise InputError(
                f"training.workers {training.workers} need {amount} {resource}s, this machine has "
                f"{there.get(resource, 0):g}; use fewer workers"
                + (", or --set training.use_gpu=false" if resource == "GPU" else "")
            )


def _cause(error: BaseException) -> BaseException:
    """Return the error inside Ray's wrappings: our own if there is one, else the innermost."""
    failures = list(getattr(error, "worker_failures", {}).values())
    inner = next(iter(failures), None) or getattr(error, "_base_exc", None) or error.__cause__
    return error if inner is None or isinstance(error, PlatformError) else _cause(inner)
