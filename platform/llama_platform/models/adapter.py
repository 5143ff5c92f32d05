"""Adapters: LoRA by PEFT, attached to a base, read and written. The only user of peft."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from llama_platform.errors import EngineError, InputError, IntegrityError
from llama_platform.models.adapter_folder import FACTS_FILE, WEIGHTS_FILE, check_adapter, check_plain, open_weights
from llama_platform.models.lora_settings import LoraSettings


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
        use_rslora=settings.rslora,
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
    for config in model.peft_config.values():
        config.base_model_name_or_path = facts.get("base")  # as configured, not where it lies on this machine
    # LoRA here never trains embeddings; left to find out, peft looks for the base on the hub and warns.
    model.save_pretrained(folder, state_dict=dict(state), safe_serialization=True, save_embedding_layers=False)
    (folder / FACTS_FILE).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    check_adapter(folder)


def open_adapter(base: Any, folder: Path, name: str) -> Any:
    """Return `base` with the adapter of `folder` beside it under `name`; evaluation mode.

    Raises:
        IntegrityError: the folder holds no usable adapter, or one that does not fit the base.
    """
    check_fits(base, folder)
    return PeftModel.from_pretrained(base, folder, adapter_name=name, **_reading(base)).eval()


def _reading(base: Any) -> dict[str, Any]:
    """Return how peft reads weights: to the base's own device; left to itself, it takes a GPU that may be nobody's."""
    return {"use_safetensors": True, "torch_device": str(next(base.parameters()).device)}


def merge_into_base(model: Any) -> Any:
    """Return the base of what `open_adapter` returned, with the adapter added to its weights."""
    return model.merge_and_unload(safe_merge=True)


def check_fits(base: Any, folder: Path) -> None:
    """Check an adapter against a base before PEFT touches it: PEFT changes the base first and complains after.

    Args:
        base: a `LlamaForCausalLM`, bare or with adapters of PEFT in it already.
        folder: a PEFT folder.

    Raises:
        IntegrityError: the folder holds no usable adapter, uses what is not supported, or has tensors for layers
            or of shapes that the base has not.
    """
    config = check_adapter(folder)
    check_plain(config)
    linears = {
        name.removesuffix(".base_layer"): m for name, m in base.named_modules() if isinstance(m, torch.nn.Linear)
    }
    rank = config.get("r")
    with open_weights(folder / WEIGHTS_FILE) as tensors:
        for name in tensors.keys():  # noqa: SIM118 - not a mapping
            path, _, kind = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
            linear, shape = linears.get(path), tensors.get_slice(name).get_shape()
            if linear is None or kind not in ("lora_A", "lora_B"):
                raise IntegrityError(f"the adapter does not fit this base: it has {name}, the base has no such layer")
            expected = [rank, linear.in_features] if kind == "lora_A" else [linear.out_features, rank]
            if shape != expected:
                raise IntegrityError(f"the adapter does not fit this base: {name} is {shape}, not {expected}")


class AdapterSet:
    """Adapters of one base, loaded beside each other; one of them, or none, is active at a time."""

    def __init__(self, base: Any) -> None:
        """Start with the bare base."""
        self._base = base
        self._model: Any = None
        self._numbers = count()
        self._digests: dict[str, str] = {}
        """PEFT's name of each adapter: PEFT allows no dots in names."""

    def digests(self) -> tuple[str, ...]:
        """Return what is loaded, oldest first."""
        return tuple(self._digests)

    def load(self, digest: str, folder: Path) -> None:
        """Load the adapter of `folder`; nothing happens if it is loaded.

        Raises:
            IntegrityError: the folder holds no usable adapter, or one that does not fit the base.
        """
        if digest in self._digests:
            return
        name = f"adapter_{next(self._numbers)}"
        if self._model is None:
            self._model = open_adapter(self._base, folder, name)
        else:
            check_fits(self._base, folder)
            self._model.load_adapter(folder, adapter_name=name, **_reading(self._base))
            self._model.eval()
        self._digests[digest] = name

    def unload(self, digest: str) -> None:
        """Free an adapter; nothing happens if it is not loaded."""
        if digest in self._digests:
            self._model.delete_adapter(self._digests.pop(digest))

    @contextmanager
    def active(self, digest: str | None) -> Iterator[Any]:
        """Yield the model that answers with this adapter, or with none.

        Raises:
            EngineError: the adapter is not loaded.
        """
        if digest is None and not self._digests:
            yield self._base
        elif digest is None:
            with self._model.disable_adapter():
                yield self._model
        elif digest in self._digests:
            self._model.set_adapter(self._digests[digest])
            yield self._model
        else:
            raise EngineError(f"adapter {digest} is not loaded")
