"""AdapterPool: the adapters that are loaded, bounded by memory; the least recently used is evicted first."""

import logging
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llama_platform.errors import IntegrityError, UnavailableError
from llama_platform.inference.torch_engine.architecture import Architecture
from llama_platform.inference.torch_engine.model import LoraMatrices, Model
from llama_platform.models.adapter_folder import WEIGHTS_FILE, check_adapter, check_plain, open_weights

_log = logging.getLogger(__name__)
MOST_FAULTS = 3
"""Requests that an adapter may spoil before it is refused."""


@dataclass(slots=True)
class _Loaded:
    packed: Any
    users: int = 0
    leaving: bool = False
    pinned: bool = False


class AdapterPool:
    """Loads, lends and unloads adapters; may be called from any thread."""

    def __init__(self, model: Model, memory_bytes: int, max_rank: int) -> None:
        """Begin without adapters.

        Args:
            model: whose adapters these are.
            memory_bytes: bound on the memory of all adapters.
            max_rank: larger ones are refused.
        """
        self._model, self._memory_bytes, self._max_rank = model, memory_bytes, max_rank
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        self._faults: Counter[str] = Counter()
        self._refused: dict[str, str] = {}
        self._lock = threading.Lock()

    def digests(self) -> tuple[str, ...]:
        """Return what is loaded, unused for longest first."""
        with self._lock:
            return tuple(digest for digest, entry in self._loaded.items() if not entry.leaving)

    @property
    def size_bytes(self) -> int:
        """Return the memory that loaded adapters take."""
        with self._lock:
            return self._size()

    def load(self, digest: str, folder: Path, pinned: bool = False) -> list[str]:
        """Load the adapter of `folder`, and return the digests of those that had to go.

        Pinned ones never have to, and take at most half of the memory; beyond that one is loaded like any other.

        Raises:
            IntegrityError: the folder holds no usable adapter, one that does not fit the base or is larger than the
                memory for adapters, or one that was refused for what it did.
            UnavailableError: it does not fit beside the adapters in use.
        """
        with self._lock:
            if digest in self._refused:
                raise IntegrityError(f"adapter {digest} is refused: {self._refused[digest]}")
            if self._renew(digest, pinned):
                return []
        weights = folder / WEIGHTS_FILE
        if weights.is_file():  # before it is read; no precision that adapters are held in is below half of float32
            self._check_size(weights.stat().st_size // 2)
        packed = self._model.pack_adapter(read_adapter(folder, self._model.architecture, self._max_rank))
        self._check_size(packed.size_bytes)
        with self._lock:
            if self._renew(digest, pinned):  # another thread has loaded it meanwhile
                return []
            gone = self._make_room(packed.size_bytes, digest)
            self._loaded[digest] = _Loaded(packed)
            self._pin(self._loaded[digest], pinned)
            return gone

    def pin(self, digest: str) -> bool:
        """Keep a loaded adapter when others need its place, as far as pinned ones may; return whether it is loaded."""
        with self._lock:
            return self._renew(digest, pinned=True)

    def blame(self, digest: str, reason: str) -> None:
        """Count a request that an adapter has spoiled; after MOST_FAULTS of them it is refused for good.

        Args:
            digest: the adapter.
            reason: what it did; part of the refusal.
        """
        with self._lock:
            self._faults[digest] += 1
            if self._faults[digest] < MOST_FAULTS or digest in self._refused:
                return
            self._refused[digest] = f"{MOST_FAULTS} requests with it failed: {reason}"
            _log.error("an adapter is refused", extra={"digest": digest, "reason": reason})
            if (entry := self._loaded.get(digest)) is not None:
                entry.leaving = True
                self._drop_if_idle(digest, entry)

    def refused(self) -> dict[str, str]:
        """Return the adapters that are refused for what they did, with the reason."""
        with self._lock:
            return dict(self._refused)

    def unpin(self, digest: str) -> None:
        """Let an adapter be evicted; nothing happens if it is not loaded."""
        with self._lock:
            if (entry := self._loaded.get(digest)) is not None:
                entry.pinned = False

    def unload(self, digest: str) -> None:
        """Free an adapter, once nobody uses it; nothing happens if it is not loaded."""
        with self._lock:
            if (entry := self._loaded.get(digest)) is not None:
                entry.leaving = True
                self._drop_if_idle(digest, entry)

    def acquire(self, digest: str) -> Any:
        """Return an adapter for `forward`, and keep it loaded until it is released; None if it is not loaded."""
        with self._lock:
            entry = self._loaded.get(digest)
            if entry is None or entry.leaving or digest in self._refused:
                return None
            entry.users += 1
            self._loaded.move_to_end(digest)
            return entry.packed

    def release(self, digest: str) -> None:
        """End the use of an acquired adapter."""
        with self._lock:
            entry = self._loaded[digest]
            entry.users -= 1
            self._drop_if_idle(digest, entry)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._memory_bytes:
            raise IntegrityError(
                f"the adapter takes {size_bytes / 2**20:.1f} MiB, {self._memory_bytes / 2**20:.1f} MiB are for "
                "adapters: raise engine.adapter_memory_mib"
            )

    def _renew(self, digest: str, pinned: bool) -> bool:
        entry = self._loaded.get(digest)
        if entry is None:
            return False
        entry.leaving = False
        self._pin(entry, pinned)
        self._loaded.move_to_end(digest)
        return True

    def _size(self) -> int:
        return sum(entry.packed.size_bytes for entry in self._loaded.values())

    def _pin(self, entry: _Loaded, pinned: bool) -> None:
        others = sum(e.packed.size_bytes for e in self._loaded.values() if e.pinned and e is not entry)
        entry.pinned = pinned and 2 * (others + entry.packed.size_bytes) <= self._memory_bytes

    def _drop_if_idle(self, digest: str, entry: _Loaded) -> None:
        if entry.leaving and entry.users == 0:
            del self._loaded[digest]

    def _make_room(self, size_bytes: int, digest: str) -> list[str]:
        idle = [(name, e.packed.size_bytes) for name, e in self._loaded.items() if e.users == 0 and not e.pinned]
        excess, gone = self._size() + size_bytes - self._memory_bytes, []
        while excess > 0 and idle:
            name, freed = idle.pop(0)
            gone.append(name)
            excess -= freed
        if excess > 0:
            raise UnavailableError(
                f"adapter {digest} needs {size_bytes / 2**20:.1f} MiB; {self._memory_bytes / 2**20:.0f} MiB are for "
                "adapters, and requests are using them: try again, or raise engine.adapter_memory_mib"
            )
        for name in gone:
            del self._loaded[name]
        return gone


def read_adapter(folder: Path, architecture: Architecture, max_rank: int) -> LoraMatrices:
    """Return the LoRA matrices of a PEFT folder, the scale multiplied into B.

    Raises:
        IntegrityError: the folder holds no usable adapter, one of another kind, or one that does not fit the base.
    """
    config = check_adapter(folder)
    check_plain(config)
    rank = config["r"]
    if rank > max_rank:
        raise IntegrityError(f"the adapter has rank {rank}; at most {max_rank} are served (engine.max_adapter_rank)")
    scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    shapes, found = architecture.projections, {}
    with open_weights(folder / WEIGHTS_FILE) as tensors:
        for name in tensors.keys():  # noqa: SIM118 - not a mapping
            place = _place(name, architecture.layers)
            if place is None or place[1] not in shapes:
                raise IntegrityError(f"the adapter does not fit this base: it has {name}, the base has no such layer")
            outputs, inputs = shapes[place[1]]
            expected = [rank, inputs] if place[2] == "lora_A" else [outputs, rank]
            if (shape := tensors.get_slice(name).get_shape()) != expected:
                raise IntegrityError(f"the adapter does not fit this base: {name} is {shape}, not {expected}")
            found[place] = tensors.get_tensor(name).to(torch.float32, copy=True)
    pairs = {(layer, projection) for layer, projection, _ in found}
    if len(found) != 2 * len(pairs):
        raise IntegrityError(f"{folder}: a projection has only one of its two matrices")
    scaled = {(n, p): (found[n, p, "lora_A"], found[n, p, "lora_B"] * scale) for n, p in sorted(pairs)}
    for (layer, projection), (_, up) in scaled.items():
        if not bool(torch.isfinite(up).all()):
            raise IntegrityError(f"{folder}: {projection} of layer {layer} is not finite once scaled by {scale:g}")
    return scaled


def _place(name: str, layers: int) -> tuple[int, str, str] | None:
    """Return layer, projection and matrix of a tensor of PEFT's, or None for what is none of a Llama's."""
    parts = name.removeprefix("base_model.model.").removesuffix(".weight").split(".")
    fits = len(parts) == 6 and parts[:2] == ["model", "layers"] and parts[5] in ("lora_A", "lora_B")
    block = "mlp" if fits and parts[4] in ("gate_proj", "up_proj", "down_proj") else "self_attn"
    if not fits or parts[3] != block or not parts[2].isdigit() or int(parts[2]) >= layers:
        return None
    return int(parts[2]), parts[4], parts[5]
