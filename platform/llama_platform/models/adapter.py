"""Adapters: LoRA by PEFT, attached to a base, read and written. The only user of peft."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import Field

from llama_platform.config import Config
from llama_platform.errors import EngineError, InputError
from llama_platform.models.adapter_folder import FACTS_FILE, check_adapter

Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class LoraSettings(Config):
    """Shape of the trained matrices (Hu et al., 2021, «LoRA»)."""

    r: Annotated[int, Field(ge=1, le=1024)] = 64
    """Rank."""
    alpha: Annotated[int, Field(ge=1)] = 16
    """The update is scaled by alpha / r."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """On the input of the matrices, in training only."""
    targets: tuple[Projection, ...] | Literal["all-linear"] = ("q_proj", "v_proj")
    """Projections that get matrices, or `all-linear` for all seven."""


def attach_lora(model: Any, settings: LoraSettings, seed: int) -> Any:
    """Return `model` with fresh LoRA matrices, everything else frozen.

    Raises:
        InputError: the model has none of the targets.
    """
    torch.manual_seed(seed)
    targets = settings.targets if settings.targets == "all-linear" else list(settings.targets)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config, autocast_adapter_dtype=False)
    except ValueError as error:
        raise InputError(f"lora.targets {settings.targets}: {error}") from error


def trainable_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_adapter(model: Any, state: Mapping[str, torch.Tensor], folder: Path, facts: Mapping[str, Any]) -> None:
    """Write a plain PEFT folder: safetensors and JSON, and `facts` in `training_args.json`.

    Args:
        model: what `attach_lora` returned; its own weights are not read.
        state: float32 tensors by parameter name, gathered from all workers.
        folder: made if needed.
        facts: origin and metrics, JSON values.

    Raises:
        IntegrityError: the tensors are empty, all zero or not finite.
    """
    model.save_pretrained(folder, state_dict=dict(state), safe_serialization=True)
    (folder / FACTS_FILE).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    check_adapter(folder)


def open_adapter(base: Any, folder: Path, name: str) -> Any:
    """Return `base` with the adapter of `folder` beside it under `name`; evaluation mode.

    Raises:
        IntegrityError: the folder holds no usable adapter.
        InputError: the adapter does not fit the base.
    """
    check_adapter(folder)
    try:
        model = PeftModel.from_pretrained(base, folder, adapter_name=name, use_safetensors=True)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{folder}: the adapter does not fit this base: {str(error).splitlines()[0]}") from error
    return model.eval()


class AdapterSet:
    """Adapters of one base, loaded beside each other; one of them, or none, is active at a time."""

    def __init__(self, base: Any) -> None:
        """Start with the bare base."""
        self._base = base
        self._model: Any = None
        self._digests: dict[str, None] = {}

    def digests(self) -> tuple[str, ...]:
        """Return what is loaded, oldest first."""
        return tuple(self._digests)

    def load(self, digest: str, folder: Path) -> None:
        """Load the adapter of `folder`; nothing happens if it is loaded.

        Raises:
            IntegrityError: the folder holds no usable adapter.
            InputError: the adapter does not fit the base.
        """
        if digest in self._digests:
            return
        if self._model is None:
            self._model = open_adapter(self._base, folder, digest)
        else:
            check_adapter(folder)
            try:
                self._model.load_adapter(folder, adapter_name=digest, use_safetensors=True)
            except (RuntimeError, ValueError) as error:
                raise InputError(f"{folder}: the adapter does not fit this base: {error}") from error
            self._model.eval()
        self._digests[digest] = None

    def unload(self, digest: str) -> None:
        """Free an adapter; nothing happens if it is not loaded."""
        if digest in self._digests:
            del self._digests[digest]
            self._model.delete_adapter(digest)

    @contextmanager
    def active(self, digest: str | None) -> Iterator[Any]:
        """Yield the model that answers with this adapter, or with none.

        Raises:
            EngineError: the adapter is not loaded.
        """
        if digest is None and self._model is None:
            yield self._base
        elif digest is None:
            with self._model.disable_adapter():
                yield self._model
        elif digest in self._digests:
            self._model.set_adapter(digest)
            yield self._model
        else:
            raise EngineError(f"adapter {digest} is not loaded")
