"""The training loop: what every Ray Train worker runs.

A start, first or after a failure, looks for the newest committed checkpoint of the run and continues after it.
Ray is told metrics only: checkpoints are committed through the artifact repository (decision 4).
"""

import hashlib
import logging
import math
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray.train
import torch
import torch.distributed as dist

from llama_platform.artifacts.location import repository_from
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.data.tokenize import IGNORED_LABEL, collate, load_tokenized
from llama_platform.errors import InputError, TrainingError
from llama_platform.logs import bind_context, setup_logging
from llama_platform.models.adapter import attach_lora, save_adapter
from llama_platform.models.base_model import load_base_model, load_template
from llama_platform.training.checkpoint import Checkpoint, newest_checkpoint, save_checkpoint
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.deepspeed_config import deepspeed_config
from llama_platform.training.evaluate import eval_batches
from llama_platform.training.metrics import StepMetrics, StepTimer
from llama_platform.training.order import accumulation_for, dropout_seed, micro_batches, total_steps
from llama_platform.training.step import learning_rate_at, prepare_for_training
from llama_platform.training.zero_state import gather_moments, gather_weights, load_weights, restore

log = logging.getLogger(__name__)
# Ray's report waits until the controller has polled every worker, about a second; the board does not wait.
REPORT_EVERY = 25


@dataclass
class Progress:
    """Where the run is, as kept in checkpoints."""

    global_batch_size: int
    step: int = 0
    loss_first: float | None = None
    loss_last: float | None = None
    best_eval_loss: float | None = None
    evaluations_without_gain: int = 0
    tokens: int = 0
    eval_loss: float | None = None
    stopped_early: bool = False
    identity: str | None = None
    """What the run is of: dataset, base, prompt and LoRA."""

    def claim(self, identity: str, run_id: str) -> None:
        """Bind a new run to `identity`, or check that a continued one is of the same.

        Raises:
            InputError: it is not.
        """
        if self.identity not in (None, identity):
            raise InputError(
                f"training.run_id {run_id}: its checkpoints are of another dataset version, base or lora; "
                "use another run_id, or the same settings and training.dataset_version"
            )
        self.identity = identity


class FinetuneWorker:
    """One worker's part of a run."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        """Load data, base and engine, and the newest checkpoint if there is one.

        Args:
            arguments: `config` (FinetuneConfig as JSON), `run_id`, `dataset_version`, `progress` (Progress of a
                first start), `board` (handle of the MetricsBoard).

        Raises:
            InputError: the run's checkpoints are of another dataset, base or LoRA.
        """
        self.config = FinetuneConfig.model_validate(arguments["config"])
        self.run_id: str = arguments["run_id"]
        self._board = arguments["board"]
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device = ray.train.torch.get_device()
        self.repository = repository_from(self.config.store, os.environ)
        self.template = load_template(self.config.base)
        self.dataset = self.repository.version("dataset", self.config.data.name, arguments["dataset_version"])
        self.rows = self._rows("train.parquet")
        self.lengths = [len(ids) for ids in self.rows["input_ids"]]
        checkpoint = newest_checkpoint(self.repository, self.run_id)
        self.progress = Progress(**(checkpoint.progress if checkpoint else arguments["progress"]))
        self.progress.claim(self._identity(), self.run_id)
        training = self.config.training
        size = self.progress.global_batch_size
        self.steps = total_steps(len(self.lengths), size, training.epochs, training.max_steps)
        self._start_engine(accumulation_for(size, training.micro_batch_size, self.world), checkpoint)
        if checkpoint is not None:
            restore(self.engine, self.model, checkpoint.weights, checkpoint.moments, checkpoint.step)
            log.info("resumed", extra={"step": checkpoint.step})

    def run(self) -> dict[str, Any]:
        """Train to the end, publish the adapter, and return the run's result."""
        training, timer = self.config.training, StepTimer(self.progress.step, self.steps)
        while self.progress.step < self.steps and not self.progress.stopped_early:
            metrics = self._step(timer)
            last = self.progress.step == self.steps
            evaluated = last or bool(training.evaluate_every and self.progress.step % training.evaluate_every == 0)
            if evaluated:
                self._evaluate()
            self._report(replace(metrics, eval_loss=self.progress.eval_loss if evaluated else None))
            if last or self.progress.stopped_early or self.progress.step % training.checkpoint_every == 0:
                self._checkpoint()
        return self._publish()

    def _start_engine(self, accumulation_steps: int, checkpoint: Checkpoint | None) -> None:
        import deepspeed

        training = self.config.training
        model = load_base_model(self.config.base.model_copy(update={"dtype": training.precision}))
        self.model = attach_lora(model, self.config.lora, training.seed)
        if checkpoint is not None:
            load_weights(self.model, checkpoint.weights)
        module = prepare_for_training(self.model, gradient_checkpointing=training.gradient_checkpointing)
        self.engine, *_ = deepspeed.initialize(
            model=module,
            model_parameters=[p for p in module.parameters() if p.requires_grad],
            config=deepspeed_config(training, accumulation_steps),
            dist_init_required=False,
        )

    def _rows(self, file: str) -> Any:
        folder = self.repository.fetch(self.dataset)
        return load_tokenized(folder / file, self.template, self.config.store.tokenized())

    def _step(self, timer: StepTimer) -> StepMetrics:
        training, step = self.config.training, self.progress.step
        size = self.progress.global_batch_size
        plan = micro_batches(step, self.lengths, size, training.micro_batch_size, training.seed)
        batches = [collate([self.rows[i] for i in indices], self.template.pad_token_id()) for indices in plan]
        counted = sum(int((batch["labels"][:, 1:] != IGNORED_LABEL).sum()) for batch in batches)
        rate = learning_rate_at(step, self.steps, training.learning_rate, training.warmup_fraction)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros((), device=self.device)
        for number in range(self.rank, len(batches), self.world):
            torch.manual_seed(dropout_seed(training.seed, step, number))
            nll = self.engine(**{key: value.to(self.device) for key, value in batches[number].items()})
            # DeepSpeed averages over workers and accumulation; the loss is the mean over the step's tokens.
            self.engine.backward(nll * (len(batches) / max(counted, 1)))
            self.engine.step()
            total += nll.detach().float()
        dist.all_reduce(total)
        loss = total.item() / max(counted, 1)
        if not math.isfinite(loss):
            raise TrainingError(f"step {step + 1}: the loss is {loss}; lower training.learning_rate")
        tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
        self.progress.step, self.progress.tokens = step + 1, self.progress.tokens + tokens
        self.progress.loss_first = loss if self.progress.loss_first is None else self.progress.loss_first
        self.progress.loss_last = loss
        speed, eta = timer.measure(step + 1, tokens)
        norm = float(self.engine.get_global_grad_norm() or 0.0)
        return StepMetrics(step + 1, self.steps, loss, rate, norm, speed, eta)

    @torch.no_grad()
    def _evaluate(self) -> None:
        training = self.config.training
        rows = self._rows("eval.parquet")
        rows = rows.select(range(min(len(rows), self.config.evaluation.max_chats)))
        batches = list(eval_batches(list(rows), training.micro_batch_size, self.template.pad_token_id()))
        self.engine.eval()
        sums = torch.zeros(2, device=self.device)
        for start in range(0, len(batches), self.world):
            # Every worker makes the same number of passes: with ZeRO 3 each pass is collective.
            batch = dict(batches[min(start + self.rank, len(batches) - 1)])
            if start + self.rank >= len(batches):
                batch["labels"] = torch.full_like(batch["labels"], IGNORED_LABEL)
            sums[0] += self.engine(**{key: value.to(self.device) for key, value in batch.items()}).float()
            sums[1] += (batch["labels"][:, 1:] != IGNORED_LABEL).sum()
        self.engine.train()
        dist.all_reduce(sums)
        loss = (sums[0] / sums[1].clamp(min=1)).item()
        progress = self.progress
        progress.eval_loss = loss
        gained = progress.best_eval_loss is None or loss < progress.best_eval_loss
        progress.best_eval_loss = loss if gained else progress.best_eval_loss
        progress.evaluations_without_gain = 0 if gained else progress.evaluations_without_gain + 1
        patience = training.early_stopping_patience
        # The sums are the same on every worker, and so is the decision.
        progress.stopped_early = bool(patience and progress.evaluations_without_gain >= patience)

    def _identity(self) -> str:
        config = self.config
        parts = (self.dataset.digest, config.base, config.lora, self.template.fingerprint(), config.training.seed)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _report(self, metrics: StepMetrics) -> None:
        values = asdict(metrics)
        if self.rank == 0:
            self._board.post.remote(values)
        if self.progress.step % REPORT_EVERY == 0 or self.progress.step == self.steps:
            ray.train.report(values)

    def _checkpoint(self) -> None:
        weights, moments = gather_weights(self.model), gather_moments(self.model)
        if self.rank == 0:
            checkpoint = Checkpoint(self.progress.step, weights, moments, vars(self.progress))
            save_checkpoint(self.repository, self.run_id, checkpoint)
        # Nobody goes on before the checkpoint is committed: a failed upload must stop the whole run.
        dist.barrier()

    def _publish(self) -> dict[str, Any]:
        weights = gather_weights(self.model)
        published: list[ArtifactVersion | None] = [None]
        if self.rank == 0:
            facts = self._facts()
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "adapter"
                save_adapter(self.model, weights, folder, facts)
                self.template.tokenizer.save_pretrained(folder)
                published = [self.repository.publish("adapter", self.config.adapter.name, folder, facts)]
        dist.broadcast_object_list(published, src=0)
        version = published[0]
        if version is None:
            raise TrainingError("the first worker published no adapter")
        return {
            "adapter": {"name": version.name, "version": version.version, "digest": version.digest},
            "uri": self.repository.uri(version),
            "steps": self.progress.step,
            "workers": self.world,
            **vars(self.progress),
        }

    def _facts(self) -> dict[str, Any]:
        dataset = {"name": self.dataset.name, "version": self.dataset.version, "digest": self.dataset.digest}
        return {
            "base": self.config.base.model,
            "base_revision": self.config.base.revision,
            "prompt_style": self.template.style,
            "prompt_fingerprint": self.template.fingerprint(),
            "dataset": dataset,
            "run_id": self.run_id,
            "metrics": vars(self.progress),
            "settings": self.config.settings(),
        }


def train_loop(arguments: dict[str, Any]) -> dict[str, Any]:
    """Run one worker; the entry point that Ray Train calls."""
    setup_logging()
    bind_context(run=arguments["run_id"], rank=dist.get_rank())
    threads = arguments["config"]["training"]["cpus_per_worker"]
    torch.set_num_threads(threads)
    os.environ |= {"OMP_NUM_THREADS": str(threads), "LOCAL_SIZE": os.environ.get("LOCAL_WORLD_SIZE", "1")}
    import deepspeed
    import deepspeed.ops

    if not torch.cuda.is_available():
        # On CPUs DeepSpeed would compile an all-reduce that only its inference uses: a minute, and a compiler.
        vars(deepspeed.ops)["__compatible_ops__"] = {}
    deepspeed.init_distributed(dist_backend=dist.get_backend(), dist_init_required=False)
    return FinetuneWorker(arguments).run()
