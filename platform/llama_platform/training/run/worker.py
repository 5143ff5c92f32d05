"""The training loop: what every Ray Train worker runs.

A start, first or after a failure, looks for the newest committed checkpoint of the run and continues after it.
Ray is told metrics only: checkpoints are committed through the artifact repository (decision 4).
"""

import logging
import math
import os
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
import torch.distributed as dist

from llama_platform.artifacts.location import repository_from
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.data.packing import Batch
from llama_platform.data.tokenize import IGNORED_LABEL, load_tokenized, sampled
from llama_platform.device import CPU
from llama_platform.errors import (
    DivergedError,
    ForbiddenError,
    InputError,
    IntegrityError,
    NotFoundError,
    PlatformError,
    TrainingError,
)
from llama_platform.logs import bind_context, setup_logging
from llama_platform.models.adapter import attach_lora, save_adapter
from llama_platform.models.base_model import base_folder, load_base_model, load_template
from llama_platform.models.base_weights import weights_identity
from llama_platform.models.model_card import write_model_card
from llama_platform.training.batching.batches import TrainingData, eval_batches
from llama_platform.training.batching.sampler import accumulation_for, total_steps
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.run.checkpoint import (
    Checkpoint,
    best_weights,
    newest_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from llama_platform.training.run.control import StopRequests
from llama_platform.training.run.metrics import Gauges, StepMetrics, StepTimer
from llama_platform.training.run.state import TrainerState
from llama_platform.training.schedule import learning_rate_at
from llama_platform.training.step import TrainingStep, prepare_for_training, to_device
from llama_platform.training.zero.engine import init_deepspeed, start_engine
from llama_platform.training.zero.loading import load_sharded_base
from llama_platform.training.zero.state import (
    gather_moments,
    gather_weights,
    load_weights,
    loss_scale,
    restore,
    set_loss_scale,
)

log = logging.getLogger(__name__)
# Ray's report waits until the controller has polled every worker, about a second; RunControl does not wait.
REPORT_EVERY = 25
PREEMPTION_CHECK_S = 5.0
HOPELESS = (InputError, NotFoundError, IntegrityError, ForbiddenError, DivergedError)
"""Errors that come again when the workers are started again."""


@dataclass(frozen=True, slots=True)
class WorkerArguments:
    """What the driver gives to every worker of a run."""

    config: FinetuneConfig
    run_id: str
    dataset_version: int
    state: TrainerState
    """State of a first start; a later one begins with the newest checkpoint's."""
    control: Any
    """Handle of the RunControl."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What the workers have made, equal on all of them."""

    workers: int
    state: TrainerState
    adapter: ArtifactVersion | None
    """None if the run was stopped before its end."""
    uri: str = ""
    """Place of the adapter in the store; empty without one."""


class FinetuneWorker:
    """One worker's part of a run."""

    def __init__(self, arguments: WorkerArguments, device: torch.device) -> None:
        """Load data, base and engine, and the newest checkpoint if there is one.

        Args:
            arguments: what the driver gave.
            device: what this worker trains on; DeepSpeed has been told.
        """
        self.config, self.run_id = arguments.config, arguments.run_id
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device = device
        self._control, self._stop_requests = arguments.control, StopRequests(arguments.control)
        self._gauges = Gauges(self.run_id)
        self._looked_at_nodes = time.monotonic()
        training = self.config.training
        self.packed = training.batching == "packed"
        self.repository = repository_from(self.config.store, os.environ)
        self.template = load_template(self.config.base)
        self.dataset = self.repository.version("dataset", self.config.data.name, arguments.dataset_version)
        self.data = TrainingData(
            self._rows("train.parquet"),
            self.template.pad_token_id(),
            training.micro_batch_size,
            training.batching,
            training.seed,
        )
        checkpoint = self._newest_checkpoint()
        self.state = TrainerState.from_json(checkpoint.progress) if checkpoint else arguments.state
        size = self.state.global_batch_size
        self.steps = total_steps(len(self.data), size, training.epochs, training.max_steps)
        self._start_engine(accumulation_for(size, training.micro_batch_size, self.world), checkpoint)
        if checkpoint is not None:
            self._resume(checkpoint)

    def run(self) -> RunOutcome:
        """Train to the end or to a request to stop; the outcome has the adapter if it came to the end."""
        timer, stopped = StepTimer(self.state.step, self.steps), False
        while self.state.step < self.steps and not (self.state.stopped_early or stopped):
            metrics, stopped = self._step(timer)
            gained = self._evaluate() if self._evaluation_is_due() else None
            if gained is not None:
                metrics = replace(metrics, eval_loss=self.state.eval_loss, win_rate=self.state.win_rate)
            self._report(metrics)
            last = self.state.step == self.steps or self.state.stopped_early or stopped
            if last or gained or self.state.step % self.config.training.checkpoint_every == 0:
                self._checkpoint(None if gained is None else self.state.eval_loss)
        if stopped and self.state.step < self.steps:
            return RunOutcome(self.world, self.state, None)
        version = self._publish()
        return RunOutcome(self.world, self.state, version, self.repository.uri(version))

    def _start_engine(self, accumulation_steps: int, checkpoint: Checkpoint | None) -> None:
        training = self.config.training
        base = self.config.base.model_copy(update={"dtype": training.precision})
        sharded = training.zero_stage == 3
        model = load_sharded_base(base, training) if sharded else load_base_model(base, self.device)
        self.model = attach_lora(model, self.config.lora, training.seed)
        if checkpoint is not None:
            load_weights(self.model, checkpoint.weights)
        module = prepare_for_training(
            self.model,
            gradient_checkpointing=training.gradient_checkpointing,
            packed=self.packed,
            device=self.device,
            beta=training.beta if training.objective == "dpo" else None,
        )
        self.engine = start_engine(module, training, accumulation_steps)
        self._train = TrainingStep(self.engine, self.device, training.seed)

    def _newest_checkpoint(self) -> Checkpoint | None:
        checkpoint = newest_checkpoint(self.repository, self.run_id)
        steps: list[int | None] = [None] * self.world
        dist.all_gather_object(steps, checkpoint.step if checkpoint else 0)
        if len(set(steps)) > 1:  # as where one node could not read what the others could
            raise TrainingError(f"run {self.run_id}: the workers found checkpoints of different steps: {steps}")
        return checkpoint

    def _resume(self, checkpoint: Checkpoint) -> None:
        restore(self.engine, self.model, checkpoint.weights, checkpoint.moments, checkpoint.step)
        set_loss_scale(self.engine, self.state.loss_scale)
        log.info("resumed", extra={"step": checkpoint.step})
        if self.rank == 0:
            # The driver that was told of these steps may be gone, and what it had not written with it.
            self._control.post.remote(self.state.unlogged)

    def _rows(self, file: str) -> Any:
        pairs = self.config.training.objective == "dpo"
        with self.repository.fetched(self.dataset) as folder:
            return load_tokenized(folder / file, self.template, self.config.store.tokenized(), pairs=pairs)

    def _step(self, timer: StepTimer) -> tuple[StepMetrics, bool]:
        """Do a step; return what it measured, and whether all workers are to end after it."""
        training, state, start = self.config.training, self.state, time.perf_counter()
        part = self.data.step(state.step, state.global_batch_size, self.rank, self.world)
        rate = learning_rate_at(
            state.step, self.steps, training.learning_rate, training.warmup_fraction, training.schedule
        )
        nll = self._train.run(state.step, part.batches, part.count, part.trained_tokens, rate)
        total, stop, look = self._agree(nll)
        loss = total / max(part.trained_tokens, 1)
        if not math.isfinite(loss):
            raise DivergedError(f"step {state.step + 1}: the loss is {loss}; lower training.learning_rate")
        state.add_step(loss, part.tokens)
        seconds = time.perf_counter() - start
        speed, eta = timer.measure(state.step, part.tokens)
        norm = self._train.grad_norm
        # Ray's look at the nodes is collective, so all workers take it at the same steps.
        drained = look and ray.train.get_preemption_info() is not None
        if drained:
            log.warning("a node of this run is being drained: committing a checkpoint and stopping")
        metrics = StepMetrics(state.step, self.steps, loss, rate, norm, speed, eta, None, part.tokens, seconds)
        return metrics, stop or drained

    def _agree(self, nll: torch.Tensor) -> tuple[float, bool, bool]:
        """Return the loss over all workers, and the first worker's wish to stop and to look at the nodes."""
        wishes = [0.0, 0.0]
        if self.rank == 0:
            look = time.monotonic() - self._looked_at_nodes > PREEMPTION_CHECK_S
            self._looked_at_nodes = time.monotonic() if look else self._looked_at_nodes
            wishes = [float(self._stop_requests.pending()), float(look)]
        values = torch.cat([nll.detach().float().reshape(1), torch.tensor(wishes, device=self.device)])
        dist.all_reduce(values)
        total, stop, look_now = values.tolist()
        return total, bool(stop), bool(look_now)

    def _evaluation_is_due(self) -> bool:
        every, step = self.config.training.evaluate_every, self.state.step
        return step == self.steps or bool(every and step % every == 0)

    @cached_property
    def _held_out_batches(self) -> list[Batch]:
        """Batches of the held-out chats, read once: every reading checks the whole dataset against its sha256."""
        rows = self._rows("eval.parquet")
        rows = sampled(rows, self.config.evaluation.max_chats)
        size = self.config.training.micro_batch_size
        return list(eval_batches(list(rows), size, self.template.pad_token_id(), self.packed))

    @torch.no_grad()
    def _evaluate(self) -> bool:
        """Measure the held-out loss; return whether it is the lowest so far."""
        batches = self._held_out_batches
        self.engine.eval()
        module = self.engine.module
        module.wins = 0
        sums = torch.zeros(3, device=self.device)
        for start in range(0, len(batches), self.world):
            # Every worker makes the same number of passes: with ZeRO 3 each pass is collective.
            batch = dict(batches[min(start + self.rank, len(batches) - 1)])
            if start + self.rank >= len(batches):
                batch["labels"] = torch.full_like(batch["labels"], IGNORED_LABEL)
            sums[0] += self.engine(**to_device(batch, self.device)).float()
            sums[1] += module.counted(**batch)
        sums[2] = module.wins
        self.engine.train()
        dist.all_reduce(sums)
        # The sums are the same on every worker, and so is what follows from them.
        if not torch.isfinite(sums[0]):
            raise DivergedError(
                f"step {self.state.step}: the held-out loss is not finite; lower training.learning_rate, or train in "
                "another training.precision"
            )
        total, count, wins = sums.tolist()
        if self.config.training.objective == "dpo":
            self.state.win_rate = wins / max(count, 1)
        return self.state.add_evaluation(total / max(count, 1), self.config.training.early_stopping_patience)

    def _report(self, metrics: StepMetrics) -> None:
        last = metrics.step == self.steps or self.state.stopped_early
        due = metrics.step % self.config.training.log_every == 0
        if self.rank == 0 and (last or due or metrics.eval_loss is not None):
            self._control.post.remote([metrics])
            self._gauges.set(metrics)
            self.state.unlogged.append(metrics)
        if metrics.step % REPORT_EVERY == 0 or last:
            ray.train.report(asdict(metrics))

    def _checkpoint(self, eval_loss: float | None) -> None:
        weights, moments = gather_weights(self.engine, self.model), gather_moments(self.engine, self.model)
        self.state.loss_scale = loss_scale(self.engine)
        if self.rank == 0:
            checkpoint = Checkpoint(self.state.step, weights, moments, asdict(self.state), eval_loss)
            save_checkpoint(self.repository, self.run_id, checkpoint)
            prune_checkpoints(self.repository, self.run_id, self.config.training.keep_checkpoints)
        self.state.unlogged = []
        # All ranks wait for the commit, so that a failed upload stops the run.
        dist.barrier()

    def _publish(self) -> ArtifactVersion:
        weights = gather_weights(self.engine, self.model)
        published: list[ArtifactVersion | None] = [None]
        if self.rank == 0:
            if self.config.training.publish == "best":
                weights = best_weights(self.repository, self.run_id) or weights
            facts = self._facts()
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "adapter"
                save_adapter(self.model, weights, folder, facts)
                self.template.tokenizer.save_pretrained(folder)
                write_model_card(folder, self.config.adapter.name, facts)
                published = [self.repository.publish("adapter", self.config.adapter.name, folder, facts)]
        dist.broadcast_object_list(published, src=0)
        version = published[0]
        if version is None:
            raise TrainingError("the first worker published no adapter")
        return version

    def _facts(self) -> dict[str, Any]:
        dataset = {"name": self.dataset.name, "version": self.dataset.version, "digest": self.dataset.digest}
        return {
            "base": self.config.base.model,
            "base_revision": self.config.base.revision,
            "base_weights": weights_identity(base_folder(self.config.base)),
            "prompt_style": self.template.style,
            "prompt_fingerprint": self.template.fingerprint(),
            "dataset": dataset,
            "run_id": self.run_id,
            "metrics": self.state.summary(best=self.config.training.publish == "best"),
            # The data was chosen and checked when the dataset was prepared, whatever this run's `data` says.
            "settings": self.config.settings() | {"data": self.repository.manifest(self.dataset).metadata["settings"]},
            "chats": len(self.data),
            "epochs": round(self.state.step * self.state.global_batch_size / len(self.data), 3),
        }


def train_loop(given: dict[str, WorkerArguments]) -> RunOutcome | PlatformError:
    """Run one worker; the entry point that Ray Train calls, which takes nothing but a dict.

    Ray Train starts the workers again after any error. After one that this would not mend they only return it.
    """
    arguments = given["arguments"]
    control = arguments.control
    reason: PlatformError | None = ray.get(control.given_up.remote())
    if reason is not None:
        return reason
    setup_logging()
    bind_context(run=arguments.run_id, rank=dist.get_rank())
    training = arguments.config.training
    device = ray.train.torch.get_device() if training.use_gpu else CPU
    init_deepspeed(training.cpus_per_worker, device)
    try:
        return FinetuneWorker(arguments, device).run()
    except torch.OutOfMemoryError as error:
        hopeless: PlatformError = InputError(
            f"the device has too little memory: lower training.micro_batch_size or data.max_tokens, or set "
            f"training.gradient_checkpointing ({str(error).splitlines()[0]})"
        )
        ray.get(control.give_up.remote(hopeless))
        raise hopeless from error
    except HOPELESS as error:
        ray.get(control.give_up.remote(error))
        raise
