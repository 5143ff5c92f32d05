"""Weights: the tensors of a safetensors folder, read one by one so that no second copy of a model is in memory."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from llama_platform.errors import InputError

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


class Weights:
    """Finds tensors by name in the files of a folder."""

    def __init__(self, folder: Path) -> None:
        """List what the folder holds.

        Raises:
            InputError: it holds no safetensors.
        """
        self._folder = folder
        try:
            if (folder / _SINGLE).is_file():
                with safe_open(folder / _SINGLE, framework="pt") as tensors:
                    self._file_of = dict.fromkeys(tensors.keys(), _SINGLE)
            else:
                self._file_of = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"]
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise InputError(
                f"{folder}: neither {_SINGLE} nor {_INDEX} can be read ({error}); pickled weights are not opened"
            ) from error

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    @property
    def size_bytes(self) -> int:
        """Return the size of the files."""
        return sum((self._folder / name).stat().st_size for name in set(self._file_of.values()))

    def read(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a tensor, in its file's dtype.

        Its file is mapped for as long as the tensor lives, so convert it and let it go.

        Raises:
            InputError: it is missing, damaged or has another shape.
        """
        if name not in self._file_of:
            raise InputError(f"{self._folder}: tensor {name} is missing; is this a Llama?")
        path = self._folder / self._file_of[name]
        try:
            with safe_open(path, framework="pt") as tensors:
                tensor: torch.Tensor = tensors.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: {name} cannot be read: {error}") from error
        if tuple(tensor.shape) != shape:
            raise InputError(f"{path}: {name} has shape {tuple(tensor.shape)}, config.json says {shape}")
        return tensor
