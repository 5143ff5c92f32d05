"""Adapter folders: the plain PEFT layout on disk, checked before it is published, served or exported.

Headers come first: what a folder says of itself is checked against bounds before any of its tensors takes memory.
Nothing here loads a model.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from llama_platform.errors import InputError, IntegrityError
from llama_platform.storage.regular_files import open_file

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
FACTS_FILE = "training_args.json"
"""What the platform knows of the adapter's origin: base, prompt style and fingerprint, dataset, metrics."""
DTYPES = frozenset({"F32", "F16", "BF16"})
MAX_RANK = 1024
MAX_ALPHA = 1e6
MAX_JSON_BYTES = 16 * 2**20
CHECKED_VALUES = 2**24
"""Values of a tensor that are looked at together: memory does not grow with a tensor."""

# Options of LoRA under which an adapter is more than two matrices per layer, and the values that leave them off.
_PLAIN_OPTIONS: Mapping[str, tuple[Any, ...]] = {
    "use_dora": (None, False),
    "modules_to_save": (None, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "lora_bias": (None, False),
    "bias": (None, "none"),
    "init_lora_weights": (None, True, False, "gaussian"),
}


# What may have any value: it says how the adapter was made, or is spoken of elsewhere here.
_OTHER_FIELDS = frozenset(
    """auto_mapping base_model_name_or_path exclude_modules inference_mode layers_pattern layers_to_transform
    lora_alpha lora_dropout megatron_core peft_type peft_version qalora_group_size r revision runtime_config
    target_modules task_type use_rslora""".split()
)


def check_adapter(folder: Path) -> dict[str, Any]:
    """Return the adapter's configuration if the folder holds a usable LoRA adapter.

    Raises:
        IntegrityError: files are missing, rank or alpha is no usable number, or weights are of other types or shapes,
            all zero or not finite.
    """
    config = read_json(folder / CONFIG_FILE)
    if config.get("peft_type") != "LORA":
        raise IntegrityError(f"{folder}: peft_type is {config.get('peft_type')!r}; only LORA is supported")
    if config.get("auto_mapping") and "custom" in str(config["auto_mapping"]):
        raise IntegrityError(f"{folder}: the adapter asks for custom code, which is never run")
    rank = _check_scale(config, folder / CONFIG_FILE)
    weights = folder / WEIGHTS_FILE
    with open_weights(weights) as tensors:
        shapes = {name: _check_header(tensors, name, weights) for name in tensors.keys()}  # noqa: SIM118
        if not config.get("rank_pattern"):
            _check_ranks(shapes, rank, weights)
        learned = [name for name in shapes if _check_values(tensors, name, weights) and "lora_B" in name]
    if not any("lora_A" in name for name in shapes) or not learned:
        raise IntegrityError(f"{weights}: every lora_B is zero or absent: this adapter changes nothing")
    return config


def check_plain(config: Mapping[str, Any]) -> None:
    """Check that an adapter is two matrices per layer and nothing else, which is what can be served.

    Raises:
        IntegrityError: it uses another variant of LoRA.
    """
    for option, plain in _PLAIN_OPTIONS.items():
        if config.get(option) not in plain:
            raise IntegrityError(f"the adapter sets {option} to {config[option]!r}, which is not supported")
    for option in config.keys() - _PLAIN_OPTIONS.keys() - _OTHER_FIELDS:
        if config[option] not in (None, False, "", [], {}):  # PEFT's own way to say that an option is not used
            raise IntegrityError(f"the adapter sets {option} to {config[option]!r:.80}, which is not known here")


def open_weights(path: Path) -> Any:
    """Return the opened tensors of a safetensors file, as a context.

    Raises:
        IntegrityError: it is missing, no regular file, or no safetensors file.
    """
    try:
        with open_file(path):
            return safe_open(path, framework="pt")
    except FileNotFoundError as error:
        raise IntegrityError(f"{path}: missing (pickled weights are not read)") from error
    except (SafetensorError, OSError, ValueError, InputError) as error:
        raise IntegrityError(f"{path}: not a safetensors file: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        IntegrityError: it is missing, no regular file, too large, or no JSON object.
    """
    try:
        with open_file(path) as file:
            content = file.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise ValueError(f"more than {MAX_JSON_BYTES} bytes")
        values = json.loads(content, parse_constant=_refuse_constant)
        json.dumps(values, ensure_ascii=False).encode()  # half a character could not be written again
    except FileNotFoundError as error:
        raise IntegrityError(f"{path}: missing") from error
    except RecursionError as error:
        raise IntegrityError(f"{path}: not JSON: nested too deeply") from error
    except (OSError, ValueError, InputError) as error:
        raise IntegrityError(f"{path}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise IntegrityError(f"{path}: expected a JSON object")
    return values


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _check_scale(config: Mapping[str, Any], where: Path) -> int:
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise IntegrityError(f"{where}: r is {_short(rank)}; a rank is a whole number from 1 to {MAX_RANK}")
    # Compared before anything is computed with it: a whole number of JSON may be larger than any float.
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= MAX_ALPHA:
        raise IntegrityError(f"{where}: lora_alpha is {_short(alpha)}; it is a number above 0, at most {MAX_ALPHA:g}")
    return rank


def _check_header(tensors: Any, name: str, where: Path) -> tuple[int, ...]:
    """Return the shape of a tensor; no value is read."""
    try:
        found = tensors.get_slice(name)
        dtype, shape = found.get_dtype(), tuple(found.get_shape())
    except (SafetensorError, ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        raise IntegrityError(f"{where}: {name} cannot be read: {error}") from error
    if dtype not in DTYPES:
        raise IntegrityError(f"{where}: {name} is of type {dtype}; known are {', '.join(sorted(DTYPES))}")
    if not shape or len(shape) > 2 or 0 in shape:
        raise IntegrityError(f"{where}: {name} is empty or no matrix (shape {list(shape)})")
    return shape


def _check_ranks(shapes: Mapping[str, tuple[int, ...]], rank: int, where: Path) -> None:
    for name, shape in shapes.items():
        if "lora_A" in name or "lora_B" in name:
            found = shape[0] if "lora_A" in name else shape[-1]
            if found != rank or len(shape) != 2:
                raise IntegrityError(f"{where}: {name} is {list(shape)}, which does not fit the rank {rank}")


def _check_values(tensors: Any, name: str, where: Path) -> bool:
    """Return whether a tensor holds anything but zeros."""
    learned = False
    for values in _pieces(tensors, name):
        if not bool(torch.isfinite(values).all()):
            raise IntegrityError(f"{where}: {name} holds values that are not finite")
        learned = learned or bool(values.any())
    return learned


def _pieces(tensors: Any, name: str) -> Iterator[torch.Tensor]:
    found = tensors.get_slice(name)
    shape = found.get_shape()
    if len(shape) == 1:
        yield tensors.get_tensor(name)
        return
    rows, columns = max(1, CHECKED_VALUES // shape[1]), CHECKED_VALUES
    for row in range(0, shape[0], rows):
        for column in range(0, shape[1], columns):
            yield found[row : row + rows, column : column + columns]


def _short(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**12:
        return "a number of more than 12 digits"
    return f"{value!r:.80}" if not isinstance(value, float) or math.isfinite(value) else str(value)
