"""Configuration of a fine-tuning run, shared by the jobs that prepare its data, train it and evaluate it."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from llama_platform.artifacts.location import StoreConfig
from llama_platform.config import Config
from llama_platform.data.config import DataConfig
from llama_platform.models.base_model import BaseConfig, Precision
from llama_platform.models.lora_settings import LoraSettings
from llama_platform.training.batching.sampler import Batching
from llama_platform.training.schedule import Schedule

Positive = Annotated[int, Field(ge=1)]


class TrainingConfig(Config):
    """How the adapter is trained."""

    run_id: str | None = None
    """Names the run; a run that exists already is continued. None makes a new name."""
    dataset_version: int | None = None
    """Version of the dataset `data.name`; None for the newest."""
    workers: Positive = 1
    """Ray Train workers, each one process."""
    min_workers: Positive | None = None
    """Fewest workers to go on with while nodes are missing; the run grows back to `workers` when they return. None
    waits for all."""
    resize_check_s: Annotated[float, Field(gt=0)] = 60
    """Seconds between looks at whether more workers could run; for `min_workers`."""
    use_gpu: bool = True
    """One GPU for each worker; else CPUs."""
    cpus_per_worker: Positive = 1
    """CPUs that Ray reserves for a worker, and the threads it computes with."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO: 0 shards nothing, 1 optimizer state, 2 gradients too, 3 the base too."""
    offload: Literal["none", "optimizer", "optimizer_and_base"] = "none"
    """What is kept in the memory of the CPU: the optimizer state (ZeRO 1 to 3), or the base as well (ZeRO 3)."""
    micro_batch_size: Positive = 4
    """Chats in one forward pass of one worker."""
    accumulation_steps: Positive = 4
    """Passes per optimizer step and worker; micro_batch_size × this × workers is the global batch."""
    batching: Batching = "packed"
    """`packed` puts chats one after the other without padding or attention between them; `grouped` pads chats of like
    length together; `padded` pads them as they come. The loss is the same."""
    objective: Literal["sft", "dpo"] = "sft"
    """`sft` learns the answers; `dpo` learns to prefer chosen answers to rejected ones, from a dataset with both."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """Of `dpo`: how much it costs to leave the base; larger stays nearer to it."""
    epochs: Annotated[float, Field(gt=0)] = 3
    """Passes over the dataset."""
    max_steps: Positive | None = None
    """Upper bound on optimizer steps; None for no other bound than the epochs."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-4
    """Peak of AdamW's learning rate."""
    schedule: Schedule = "cosine"
    """Learning rate after the warm-up: `cosine` or `linear` down to zero, or `constant`."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Share of the steps over which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's decoupled weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are clipped to this norm."""
    precision: Precision = "bfloat16"
    """Dtype of the computation; optimizer state is always float32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    evaluate_every: Positive | None = None
    """Steps between evaluations during training, besides the one at the end; None for no others."""
    early_stopping_patience: Positive | None = None
    """Stop after this many evaluations in a row without a lower loss; None never stops early."""
    checkpoint_every: Positive = 100
    """Steps between checkpoints; there is one after each evaluation with a new lowest loss, too."""
    keep_checkpoints: Positive = 3
    """How many of the newest checkpoints are kept, besides the one with the lowest held-out loss."""
    publish: Literal["last", "best"] = "last"
    """Which weights become the adapter: the last step's, or those with the lowest held-out loss."""
    log_every: Positive = 1
    """Steps between records in `metrics.jsonl`, progress lines and gauges."""
    wandb_project: str | None = None
    """Project of Weights & Biases that follows the run; needs the extra `wandb`."""
    max_failures: Annotated[int, Field(ge=0)] = 2
    """How often dead workers are started again."""
    seed: int = 0
    """Random seed of initialisation, data order and dropout."""


class AdapterConfig(Config):
    """Where the result goes."""

    name: str = "assistant"
    """Name of the adapter artifact."""


class EvaluationConfig(Config):
    """What `jobs.evaluate` measures and compares."""

    adapter: str | None = None
    """`name`, `name@alias`, `name@3` or `base`; None for the newest version of `adapter.name`."""
    against: str = "base"
    """What it is compared with, in the same forms."""
    max_chats: Positive = 200
    """At most this many held-out chats are scored."""
    batch_size: Positive = 8
    """Chats in one forward pass."""
    answered_chats: Annotated[int, Field(ge=0)] = 32
    """How many held-out questions are answered in full, to be compared with the held-out answers."""
    samples: Annotated[int, Field(ge=0)] = 3
    """How many of these are shown."""
    prompts: tuple[str, ...] = ()
    """Further questions that are answered and shown."""
    max_new_tokens: Positive = 64
    """Bound on each answer."""


class FinetuneConfig(Config):
    """One file for a whole run: `prepare_data`, `finetune` and `evaluate` read the parts they need."""

    store: StoreConfig = StoreConfig()
    """Where artifacts are, and this node's cache of them."""
    base: BaseConfig = BaseConfig()
    """The base model and its prompts."""
    data: DataConfig = DataConfig()
    """Which chats become the dataset."""
    lora: LoraSettings = LoraSettings()
    """Shape of the adapter."""
    training: TrainingConfig = TrainingConfig()
    """The run: workers, steps, precision."""
    adapter: AdapterConfig = AdapterConfig()
    """Name and origin of the adapter that is published."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How the adapter is compared with its base."""

    @model_validator(mode="after")
    def _possible(self) -> "FinetuneConfig":
        for problem in impossible(self):
            raise ValueError(problem)
        return self

    def global_batch_size(self) -> int:
        """Return the chats per optimizer step over all workers at the first start."""
        training = self.training
        return training.micro_batch_size * training.accumulation_steps * training.workers

    def settings(self) -> dict[str, Any]:
        """Return what is recorded with the adapter: everything but where things are stored."""
        return self.model_dump(mode="json", exclude={"store", "evaluation"})


def impossible(config: FinetuneConfig) -> Iterator[str]:
    """Yield what cannot work together, with what to change."""
    training, quantized = config.training, config.base.quantize != "none"
    yield from _impossible_in_float16(training)
    if training.early_stopping_patience and not training.evaluate_every:
        yield "training.early_stopping_patience needs training.evaluate_every"
    if training.publish == "best" and not training.evaluate_every:
        yield "training.publish best needs training.evaluate_every, or there is nothing to choose from"
    if training.offload == "optimizer" and training.zero_stage == 0:
        yield "training.offload optimizer needs training.zero_stage 1, 2 or 3"
    if training.offload == "optimizer_and_base" and training.zero_stage != 3:
        yield "training.offload optimizer_and_base needs training.zero_stage 3; or offload the optimizer alone"
    if quantized and training.zero_stage == 3:
        yield "base.quantize and training.zero_stage 3 do not go together: 4-bit weights cannot be sharded; use 0 to 2"
    if training.min_workers and training.min_workers > training.workers:
        yield f"training.min_workers {training.min_workers} is more than training.workers {training.workers}"
    micro_batches = training.accumulation_steps * training.workers
    if training.min_workers and micro_batches % training.min_workers:
        yield (
            f"a step's {micro_batches} micro-batches cannot be divided over training.min_workers "
            f"{training.min_workers}; change either so that it divides evenly"
        )


def _impossible_in_float16(training: TrainingConfig) -> Iterator[str]:
    if training.precision != "float16":
        return
    if not training.use_gpu:
        yield "training.precision float16 needs a GPU; use bfloat16 or float32 on CPUs"
    if training.zero_stage == 0:
        yield (
            "training.precision float16 needs training.zero_stage 1, 2 or 3: at 0, DeepSpeed divides gradients by a "
            "scale that it has not given the loss"
        )
