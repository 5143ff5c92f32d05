"""Trainer: from a configuration to a finished run, on whatever Ray cluster this process is connected to."""

import importlib.util
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import ray
import ray.exceptions
import yaml
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from llama_platform.artifacts.location import absolute, repository_from
from llama_platform.artifacts.manifest import Manifest, check_name
from llama_platform.artifacts.refs import check_adapter_name
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.data.dataset import find_dataset
from llama_platform.errors import InputError, PlatformError, TrainingError
from llama_platform.models.base_model import check_quantization, load_template, max_positions
from llama_platform.models.lineage import check_dataset
from llama_platform.models.prompt import PromptTemplate
from llama_platform.storage.lease import Lease
from llama_platform.training.batching.sampler import accumulation_for, total_steps
from llama_platform.training.config import FinetuneConfig, TrainingConfig
from llama_platform.training.run.checkpoint import newest_checkpoint
from llama_platform.training.run.cluster_watch import GONE_S, ClusterWatch, resubmission_advice
from llama_platform.training.run.control import RunControl
from llama_platform.training.run.log import RunLog
from llama_platform.training.run.metrics import StepMetrics
from llama_platform.training.run.state import TrainerState, run_identity
from llama_platform.training.run.worker import RunOutcome, WorkerArguments, train_loop

log = logging.getLogger(__name__)
POLL_S = 0.5
LEARNING = ("learning_rate", "schedule", "warmup_fraction", "weight_decay", "max_grad_norm", "batching", "precision")
"""Settings of `training` that decide what a step learns."""
START_TRIES = 30
"""How often Ray Train waits a minute for the workers' resources, before it gives up."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run has made."""

    run_id: str
    adapter: ArtifactVersion | None
    """None if the run was stopped before its end; submitted again with its id, it goes on."""
    uri: str
    """Of the adapter; empty without one."""
    steps: int
    workers: int
    loss_first: float
    loss_last: float
    eval_loss: float | None
    tokens: int
    tokens_per_s: float
    report: str
    """URI of the run's report."""


def finetune(
    config: FinetuneConfig,
    on_metrics: Callable[[StepMetrics], None],
    *,
    stop: threading.Event | None = None,
    may_grow: bool = False,
) -> RunResult:
    """Train an adapter on the configured dataset and publish it; blocks until the run ends.

    Args:
        config: the whole configuration.
        on_metrics: called in this thread with the records of the steps.
        stop: once set, the run commits a checkpoint after its present step and ends as `stopped`.
        may_grow: whether the cluster may still get the nodes that the run needs.

    Raises:
        NotFoundError: there is no such dataset.
        InputError: the base cannot be found, dataset or name of the adapter do not fit, the cluster is too small, or
            the run exists and is of something else.
        ConflictError: another driver is at work on the run.
        TrainingError: the workers failed more often than allowed, or no step was made.
    """
    config = config.model_copy(update={"store": absolute(config.store, os.environ)})
    check_adapter_name(config.adapter.name)
    repository = repository_from(config.store, os.environ)
    run_id = check_name(config.training.run_id or new_run_id(), "training.run_id")
    dataset = find_dataset(repository, config.data.name, config.training.dataset_version)
    _check_installed(config)
    template = load_template(config.base)  # what is wrong with the base shows here rather than in every worker
    _check_dataset(config, dataset, repository.manifest(dataset), template)
    # Before the run's state is read: another driver may be changing it.
    with Lease(repository.store, f"runs/{run_id}/lease.json", f"run {run_id}") as lease:
        state = _claimed_state(config, repository, run_id, dataset, template)
        if not may_grow:
            _check_resources(config.training)
        return _run(config, repository, run_id, dataset, state, lease, on_metrics, stop or threading.Event())


def _claimed_state(
    config: FinetuneConfig,
    repository: ArtifactRepository,
    run_id: str,
    dataset: ArtifactVersion,
    template: PromptTemplate,
) -> TrainerState:
    """Return where a run is, a new one or one that these settings can go on with."""
    checkpoint = newest_checkpoint(repository, run_id)
    state = TrainerState.from_json(checkpoint.progress) if checkpoint else TrainerState(config.global_batch_size())
    state.claim(run_identity(config, dataset, template), run_id)
    if state.global_batch_size != config.global_batch_size():
        log.warning(
            "run %s goes on with its global batch of %d chats, not with %d",
            run_id, state.global_batch_size, config.global_batch_size(),
        )  # fmt: skip
    _check_finished(config, repository, run_id, state, repository.manifest(dataset))
    _check_division(state.global_batch_size, config.training)
    return state


def _run(
    config: FinetuneConfig,
    repository: ArtifactRepository,
    run_id: str,
    dataset: ArtifactVersion,
    state: TrainerState,
    lease: Lease,
    on_metrics: Callable[[StepMetrics], None],
    stop: threading.Event,
) -> RunResult:
    repository.store.write(f"runs/{run_id}/config.yaml", yaml.safe_dump(config.model_dump(mode="json")).encode())
    # Pinned to the driver's node, so that the two live and die together.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    control = ray.remote(num_cpus=0, scheduling_strategy=here)(RunControl).remote()
    arguments = WorkerArguments(config, run_id, dataset.version, state, control)
    with RunLog(repository.store, run_id, config) as run_log:
        try:
            outcome = _follow(arguments, run_log, lease, on_metrics, stop)
            if outcome.state.step == 0:
                raise TrainingError(f"run {run_id}: no optimizer step was made")
        except BaseException as error:  # Ctrl-C too: the run's status must not stay «running»
            run_log.close("failed", error=str(error))
            raise
        run_log.close("finished" if outcome.adapter else "stopped", **_shown(outcome))
    return _result(run_id, outcome, run_log)


def _result(run_id: str, outcome: RunOutcome, run_log: RunLog) -> RunResult:
    done, records = outcome.state, run_log.records()
    assert done.loss_first is not None
    assert done.loss_last is not None
    return RunResult(
        run_id=run_id,
        adapter=outcome.adapter,
        uri=outcome.uri,
        steps=done.step,
        workers=outcome.workers,
        loss_first=done.loss_first,
        loss_last=done.loss_last,
        eval_loss=done.eval_loss,
        tokens=done.tokens,
        tokens_per_s=records[-1].tokens_per_s if records else 0.0,
        report=run_log.report_uri,
    )


def _shown(outcome: RunOutcome) -> dict[str, Any]:
    adapter, state = outcome.adapter, outcome.state
    return {
        "adapter": f"{adapter.name}@{adapter.version}" if adapter else None,
        "workers": outcome.workers,
        "tokens": f"{state.tokens:,}",
        "held_out_loss": _rounded(state.eval_loss),
        "lowest_held_out_loss": _rounded(state.best_eval_loss),
    }


def new_run_id() -> str:
    """Return a name that no other run has."""
    return f"run-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _rounded(loss: float | None) -> float | None:
    return None if loss is None else round(loss, 4)


def _follow(
    arguments: WorkerArguments,
    run_log: RunLog,
    lease: Lease,
    on_metrics: Callable[[StepMetrics], None],
    stop: threading.Event,
) -> RunOutcome:
    """Run the workers in a thread; log what they post, and pass a request to stop on to them."""
    control, run_id, seen, asked = arguments.control, arguments.run_id, 0, False
    # In the main thread, Ray Train would take SIGINT for itself and abort the run.
    run: Future[RunOutcome] = Future()
    cluster = ClusterWatch(run_id, ray.get_runtime_context().gcs_address)

    def fit() -> None:
        try:
            run.set_result(_fit(arguments))
        except BaseException as error:  # whatever it is, the waiting thread raises it
            run.set_exception(error)

    try:
        # A daemon: the call never returns where the cluster has gone.
        threading.Thread(target=fit, name="fit", daemon=True).start()
        ended = False
        while not ended:
            ended = bool(wait([run], POLL_S).done)
            cluster.check()
            lease.check()
            if stop.is_set() and not asked:
                control.request_stop.remote()
                asked = True
            records: list[StepMetrics] = ray.get(control.read_from.remote(seen), timeout=GONE_S)
            seen += len(records)
            for record in run_log.add(records):
                on_metrics(record)
        return run.result()
    except ray.exceptions.RayError as error:
        text = f"run {run_id}: the Ray cluster has failed ({type(error).__name__}); {resubmission_advice(run_id)}"
        raise TrainingError(text) from error


def _fit(arguments: WorkerArguments) -> RunOutcome:
    training, run_id = arguments.config.training, arguments.run_id
    failures = FailureConfig(max_failures=training.max_failures, controller_failure_limit=START_TRIES)
    resources = {"CPU": training.cpus_per_worker} | ({"GPU": 1} if training.use_gpu else {})
    elastic = training.min_workers is not None and training.min_workers < training.workers
    with tempfile.TemporaryDirectory(prefix="ray-train-") as scratch:
        trainer = TorchTrainer(
            train_loop,
            train_loop_config={"arguments": arguments},
            torch_config=TorchConfig(backend="nccl" if training.use_gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=(training.min_workers, training.workers) if elastic else training.workers,
                elastic_resize_monitor_interval_s=training.resize_check_s,
                use_gpu=training.use_gpu,
                resources_per_worker=resources,
            ),
            run_config=RunConfig(name=run_id, storage_path=scratch, failure_config=failures),
        )
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            cause = _cause(error)
            kind = type(cause) if isinstance(cause, PlatformError) else TrainingError
            raise kind(f"run {run_id} failed: {cause}") from error
    if isinstance(result.return_value, PlatformError):  # given up: starting the workers again would not mend it
        raise type(result.return_value)(f"run {run_id} failed: {result.return_value}")
    if not isinstance(result.return_value, RunOutcome):
        raise TrainingError(f"run {run_id} ended without a result")
    return result.return_value


def _check_division(global_batch_size: int, training: TrainingConfig) -> None:
    for workers in {training.min_workers or training.workers, training.workers}:
        accumulation_for(global_batch_size, training.micro_batch_size, workers)


def _check_dataset(
    config: FinetuneConfig, dataset: ArtifactVersion, manifest: Manifest, template: PromptTemplate
) -> None:
    check_dataset(dataset, manifest, template.fingerprint())
    if config.training.objective == "dpo" and not manifest.metadata.get("preferences"):
        raise InputError(
            f"dataset {dataset.name}@{dataset.version} holds no preferences, which training.objective dpo learns from: "
            "prepare it from records with 'chosen' and 'rejected', or set training.objective sft"
        )
    sides = manifest.metadata.get("tokens", {}).values()
    longest, positions = max((side["longest"] for side in sides), default=0), max_positions(config.base)
    chats = 2 if manifest.metadata.get("preferences") else 1  # counted together, read one by one
    if positions is not None and longest > positions * chats:
        raise InputError(
            f"dataset {dataset.name}@{dataset.version} has a chat of {longest} tokens, the base reads {positions}: "
            f"prepare it again with --set data.max_tokens={positions}"
        )


def _check_finished(
    config: FinetuneConfig, repository: ArtifactRepository, run_id: str, state: TrainerState, manifest: Manifest
) -> None:
    """Refuse other settings for a run that has no step left to take them into account."""
    training = config.training
    chats = manifest.metadata["chats"]["train"]
    steps = total_steps(chats, state.global_batch_size, training.epochs, training.max_steps)
    if not state.step or (state.step < steps and not state.stopped_early):
        return
    before = yaml.safe_load(repository.store.read(f"runs/{run_id}/config.yaml").content)["training"]
    now = training.model_dump(mode="json")
    changed = [key for key in LEARNING if key in before and before[key] != now[key]]
    if changed:
        raise InputError(
            f"training.run_id {run_id}: has made its {state.step} steps; {', '.join(changed)} would change nothing: "
            "use another run_id, or more training.epochs or training.max_steps"
        )


def _check_installed(config: FinetuneConfig) -> None:
    check_quantization(config.base)
    if config.training.wandb_project is not None and importlib.util.find_spec("wandb") is None:
        raise InputError("training.wandb_project needs wandb: install the extra, pip install 'llama-platform[wandb]'")


def _check_resources(training: TrainingConfig) -> None:
    workers = training.min_workers or training.workers
    needed = {"CPU": workers * training.cpus_per_worker, "GPU": workers * int(training.use_gpu)}
    there = ray.cluster_resources()
    for resource, amount in needed.items():
        if there.get(resource, 0) < amount:
            raise InputError(
                f"{workers} training.workers need {amount} {resource}s, this machine has "
                f"{there.get(resource, 0):g}; use fewer workers"
                + (", or --set training.use_gpu=false" if resource == "GPU" else "")
            )


def _cause(error: BaseException) -> BaseException:
    """Return the error inside Ray's wrappings: our own if there is one, else the innermost."""
    failures = list(getattr(error, "worker_failures", {}).values())
    inner = next(iter(failures), None) or getattr(error, "_base_exc", None) or error.__cause__
    return error if inner is None or isinstance(error, PlatformError) else _cause(inner)
