"""Configuration of a fine-tuning run, shared by the jobs that prepare its data, train it and evaluate it."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from llama_platform.artifacts.location import StoreConfig
from llama_platform.config import Config
from llama_platform.data.prepare import DataConfig
from llama_platform.models.adapter import LoraSettings
from llama_platform.models.base_model import BaseConfig, Precision

Positive = Annotated[int, Field(ge=1)]


class TrainingConfig(Config):
    """How the adapter is trained."""

    run_id: str | None = None
    """Names the run; a run that exists already is continued. None makes a new name."""
    dataset_version: int | None = None
    """Version of the dataset `data.name`; None for the newest."""
    workers: Positive = 1
    """Ray Train workers, each one process."""
    use_gpu: bool = True
    """One GPU for each worker; else CPUs."""
    cpus_per_worker: Positive = 1
    """CPUs that Ray reserves for a worker, and the threads it computes with."""
    zero_stage: Literal[1, 2, 3] = 2
    """DeepSpeed ZeRO: 1 shards optimizer state, 2 gradients too, 3 the base too."""
    micro_batch_size: Positive = 4
    """Chats in one forward pass of one worker."""
    accumulation_steps: Positive = 4
    """Passes per optimizer step and worker; micro_batch_size × this × workers is the global batch."""
    epochs: Annotated[float, Field(gt=0)] = 3
    """Passes over the dataset."""
    max_steps: Positive | None = None
    """Upper bound on optimizer steps; None for no other bound than the epochs."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-4
    """Peak of AdamW's learning rate; it falls to zero along a cosine."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Share of the steps over which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's decoupled weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are clipped to this norm."""
    precision: Precision = "bfloat16"
    """Of the computation; optimizer state is always float32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    evaluate_every: Positive | None = None
    """Steps between evaluations during training; None for one at the end."""
    early_stopping_patience: Positive | None = None
    """Stop after this many evaluations in a row without a lower loss; None never stops early."""
    checkpoint_every: Positive = 100
    """Steps between checkpoints."""
    max_failures: Annotated[int, Field(ge=0)] = 2
    """How often dead workers are started again."""
    seed: int = 0
    """Of initialisation, data order and dropout."""


class AdapterConfig(Config):
    """Where the result goes."""

    name: str = "assistant"
    """Name of the adapter artifact."""


class EvaluationConfig(Config):
    """What `jobs.evaluate` compares with the base."""

    adapter: str | None = None
    """`name`, `name@alias` or `name@3`; None for the newest version of `adapter.name`."""
    max_chats: Positive = 200
    """At most this many held-out chats are scored."""
    batch_size: Positive = 8
    """Chats in one forward pass."""
    samples: Annotated[int, Field(ge=0)] = 3
    """How many held-out questions base and adapter both answer in full."""
    prompts: tuple[str, ...] = ()
    """Further questions that both answer."""
    max_new_tokens: Positive = 64
    """Bound on each sample answer."""


class FinetuneConfig(Config):
    """One file for a whole run: `prepare_data`, `finetune` and `evaluate` read the parts they need."""

    store: StoreConfig = StoreConfig()
    base: BaseConfig = BaseConfig()
    data: DataConfig = DataConfig()
    lora: LoraSettings = LoraSettings()
    training: TrainingConfig = TrainingConfig()
    adapter: AdapterConfig = AdapterConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _possible(self) -> "FinetuneConfig":
        training = self.training
        if training.precision == "float16" and not training.use_gpu:
            raise ValueError("training.precision float16 needs a GPU; use bfloat16 or float32 on CPUs")
        if training.early_stopping_patience and not training.evaluate_every:
            raise ValueError("training.early_stopping_patience needs training.evaluate_every")
        return self

    def global_batch_size(self) -> int:
        """Return the chats per optimizer step over all workers at the first start."""
        training = self.training
        return training.micro_batch_size * training.accumulation_steps * training.workers

    def settings(self) -> dict[str, Any]:
        """Return what is recorded with the adapter: everything but where things are stored."""
        return self.model_dump(mode="json", exclude={"store", "evaluation"})
