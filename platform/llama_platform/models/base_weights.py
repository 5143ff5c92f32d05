"""Identity of a base's weights: tells two bases of the same shape apart, whatever their folders are called."""

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

from llama_platform.errors import InputError

_SAMPLE = 512
_MAX_HEADER = 100 * 2**20


def weights_identity(folder: Path) -> str:
    """Return `layout/content` of the safetensors of a folder: 32 hexadecimal digits each.

    The layout is of the tensors' names, types and shapes, the content of a sample of each tensor's bytes, so that it
    takes milliseconds for any base. How tensors are divided over files makes no difference.

    Raises:
        InputError: a file cannot be read, or is no safetensors.
    """
    files = sorted(folder.glob("*.safetensors"))
    return _identity(tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files))


def are_different(one: str, other: str) -> bool:
    """Return whether two identities are of bases of the same layout with different weights.

    Of other layouts, as where one base is quantized or in another precision, nothing can be said.
    """
    return one.partition("/")[0] == other.partition("/")[0] and one != other


@lru_cache(maxsize=8)
def _identity(files: tuple[tuple[str, int, int], ...]) -> str:
    layout, content = [], []
    for name, size, _ in files:
        try:
            with Path(name).open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if length > min(size, _MAX_HEADER):
                    raise ValueError("its header is longer than the file")
                tensors = json.loads(file.read(length))
                for tensor, facts in tensors.items():
                    if tensor != "__metadata__":
                        layout.append((tensor, facts["dtype"], facts["shape"]))
                        content.append((tensor, _sample(file.fileno(), 8 + length, *facts["data_offsets"])))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{name}: cannot be read as safetensors: {error}") from error
    return f"{_digest(sorted(layout))}/{_digest(sorted(content))}"


def _sample(file: int, start: int, begin: int, end: int) -> str:
    """Return bytes from the beginning and the middle of a tensor, in hexadecimal digits."""
    places = (begin, (begin + end) // 2)
    return "".join(os.pread(file, min(_SAMPLE, end - place), start + place).hex() for place in places)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
