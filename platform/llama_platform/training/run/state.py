"""TrainerState: where a run is, as kept in its checkpoints."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import InputError
from llama_platform.models.prompt import PromptTemplate
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.run.metrics import StepMetrics


def run_identity(config: FinetuneConfig, dataset: ArtifactVersion, template: PromptTemplate) -> str:
    """Return a digest of what a run is of; checkpoints of another cannot be continued."""
    training = config.training
    parts: tuple[Any, ...] = (dataset.digest, config.base, config.lora, template.fingerprint(), training.seed)
    if training.objective != "sft":  # runs that are older than other objectives stay what they are
        parts += (training.objective, training.beta)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@dataclass
class TrainerState:
    """What the loop needs to know of the steps before; equal on all workers but for `unlogged`."""

    global_batch_size: int
    step: int = 0
    loss_first: float | None = None
    loss_last: float | None = None
    best_eval_loss: float | None = None
    best_step: int | None = None
    """Step of the lowest held-out loss."""
    evaluations_without_gain: int = 0
    tokens: int = 0
    eval_loss: float | None = None
    win_rate: float | None = None
    """Share of the held-out pairs whose chosen answer is preferred; None of runs on answers."""
    stopped_early: bool = False
    loss_scale: float | None = None
    """What float16 losses are multiplied with; None in wider types."""
    identity: str | None = None
    """What the run is of: dataset, base, prompt and LoRA."""
    unlogged: list[StepMetrics] = field(default_factory=list)
    """The first worker's records since the checkpoint before, should the driver die with them."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainerState":
        """Return the state that a checkpoint holds."""
        unlogged = [StepMetrics(**record) for record in values.get("unlogged", ())]
        return cls(**{**values, "unlogged": unlogged})

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

    def add_step(self, loss: float, tokens: int) -> None:
        """Count a step."""
        self.step, self.tokens = self.step + 1, self.tokens + tokens
        self.loss_first = loss if self.loss_first is None else self.loss_first
        self.loss_last = loss

    def add_evaluation(self, loss: float, patience: int | None) -> bool:
        """Count an evaluation; return whether its loss is the lowest. After `patience` others in a row the run ends."""
        gained = self.best_eval_loss is None or loss < self.best_eval_loss
        self.eval_loss = loss
        self.best_eval_loss = loss if gained else self.best_eval_loss
        self.best_step = self.step if gained else self.best_step
        self.evaluations_without_gain = 0 if gained else self.evaluations_without_gain + 1
        self.stopped_early = bool(patience and self.evaluations_without_gain >= patience)
        return gained

    def summary(self, *, best: bool = False) -> dict[str, Any]:
        """Return what is recorded with the adapter.

        Args:
            best: whether its weights are those of the lowest held-out loss; step and held-out loss are theirs then.
        """
        found = {key: value for key, value in asdict(self).items() if key not in ("unlogged", "identity", "loss_scale")}
        if best and self.best_step is not None:
            found |= {"step": self.best_step, "eval_loss": self.best_eval_loss}
        return found
