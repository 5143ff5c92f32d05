"""CpuModel: a Llama on our own CPU kernels: weights packed once, fused QKV and gate-up, a paged KV cache."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from llama_platform.errors import InputError
from llama_platform.inference.torch_engine import cpu_kernels as kernels
from llama_platform.inference.torch_engine.architecture import Architecture
from llama_platform.inference.torch_engine.batch import PAGE, Batch
from llama_platform.inference.torch_engine.model import FUSED, LoraMatrices, read_layer, rotary_table
from llama_platform.inference.torch_engine.tile import BLOCK, LANES, Kind
from llama_platform.inference.torch_engine.weights import Weights

_QUERIES = 24
"""Tokens of a prompt that one thread attends at a time."""


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """Weights [outputs, inputs] in blocks of 64 outputs; see tile.py."""

    units: torch.Tensor
    """int32 [blocks, steps, 64]: four bytes of one output each."""

    @property
    def blocks(self) -> int:
        """Return the number of blocks."""
        return self.units.shape[0]

    @property
    def steps(self) -> int:
        """Return the steps of the inner dimension."""
        return self.units.shape[1]


@dataclass(frozen=True, slots=True)
class _Layer:
    input_norm: torch.Tensor
    attention_norm: torch.Tensor
    qkv: PackedLinear
    o: PackedLinear
    gate_up: PackedLinear
    down: PackedLinear


@dataclass(frozen=True, slots=True)
class PackedAdapter:
    """LoRA matrices as the kernels read them."""

    buffer: torch.Tensor
    table: np.ndarray
    """int64 [layers · 7, 3]: addresses of A and B in the buffer, and the padded rank."""
    rank: int
    """Largest padded rank."""

    @property
    def size_bytes(self) -> int:
        """Return the memory it takes."""
        return self.buffer.numel() * self.buffer.element_size()


class CpuModel:
    """A loaded Llama; see Model."""

    def __init__(
        self,
        architecture: Architecture,
        weights: Weights,
        kind: Kind,
        threads: int,
        positions: int,
        pages: int,
        max_rows: int,
    ) -> None:
        """Load and pack the weights.

        Args:
            architecture: of the weights.
            weights: where they are.
            kind: what weights and KV cache are held in.
            threads: of computation.
            positions: the longest sequence.
            pages: of the KV cache.
            max_rows: the most tokens of a step.

        Raises:
            InputError: the sizes or the tensors do not fit the kernels.
            OSError: torch's OpenMP library offers no interface for the kernels.
        """
        check_sizes(architecture)
        self.architecture, self._kind, self._number = architecture, kind, kernels.kind_number(kind)
        self._dtype = torch.bfloat16 if kind == "bf16" else torch.float32
        self._kernels = kernels.Kernels(threads)
        self._layers = [self._load_layer(weights, number) for number in range(architecture.layers)]
        self._norm = weights.read("model.norm.weight", (architecture.hidden,)).float().contiguous().clone()
        embedding = weights.read("model.embed_tokens.weight", (architecture.vocab_size, architecture.hidden))
        tied = architecture.tied_embeddings or "lm_head.weight" not in weights
        self._embedding = None if tied else embedding.to(self._dtype, copy=True)
        if not tied:
            embedding = weights.read("lm_head.weight", tuple(embedding.shape))
        self._head = pack_linear([embedding], self._dtype)
        self._rotary = rotary_table(architecture, positions)
        self._pages = pages
        self.reset_cache()
        self._workspace = _Workspace(architecture, self._dtype, max_rows)
        self._epsilon = struct.unpack("<i", struct.pack("<f", architecture.norm_epsilon))[0]

    def forward(self, batch: Batch, adapters: Sequence[PackedAdapter]) -> torch.Tensor:
        """Compute a step; see Model."""
        plan, work, rows = _Plan(batch, adapters), self._workspace, batch.rows
        x = self._embed(batch.token_ids)
        for number, layer in enumerate(self._layers):
            self._normalise(x, layer.input_norm, rows)
            self._linear(plan, number, 0, work.hidden, layer.qkv, work.qkv, rows)
            self._attend(plan, number, rows)
            self._linear(plan, number, 3, work.attended, layer.o, x, rows, add=True)
            self._normalise(x, layer.attention_norm, rows)
            self._linear(plan, number, 4, work.hidden, layer.gate_up, work.gate_up, rows)
            self._gate(rows)
            self._linear(plan, number, 6, work.gated, layer.down, x, rows, add=True)
        sampled = len(batch.sampled_rows)
        logits = torch.empty(sampled, self._head.blocks * BLOCK)
        if sampled:
            last = x[torch.from_numpy(batch.sampled_rows)].contiguous()
            self._normalise(last, self._norm, sampled)
            self._product(work.hidden, self._head, logits, sampled)
        return logits[:, : self.architecture.vocab_size]

    def pack_adapter(self, matrices: LoraMatrices) -> PackedAdapter:
        """Pack LoRA matrices, ranks padded to 16; see Model."""
        names = list(self.architecture.projections)
        table = np.zeros((self.architecture.layers * len(names), 3), dtype=np.int64)
        pieces: list[torch.Tensor] = []
        offset = longest = 0
        for (layer, name), (a, b) in matrices.items():
            rank = -(-a.shape[0] // LANES) * LANES
            padded_a = torch.nn.functional.pad(a, (0, 0, 0, rank - a.shape[0]))
            padded_b = torch.nn.functional.pad(b, (0, rank - b.shape[1]))
            entry = [0, 0, rank]
            for place, (matrix, columns) in enumerate(((padded_a, LANES), (padded_b, BLOCK))):
                pieces.append(pack_linear([matrix], self._dtype, columns).units.flatten())
                entry[place] = offset
                offset += pieces[-1].numel() * 4
            table[layer * len(names) + names.index(name)] = entry
            longest = max(longest, rank)
        buffer = torch.cat(pieces)
        used = table[:, 2] > 0
        table[used, :2] += buffer.data_ptr()
        return PackedAdapter(buffer, table, longest)

    def reset_cache(self) -> None:
        """Fill the KV cache with zeros: places never written must not hold what turns into NaN."""
        shape = self.architecture
        size = self._pages * shape.kv_heads * PAGE * shape.head_dim
        self._cache = torch.zeros(shape.layers, 2, size, dtype=self._dtype)

    def memory(self) -> dict[str, int]:
        """Return bytes of weights and KV cache; see Model."""
        packed = [p.units for layer in self._layers for p in (layer.qkv, layer.o, layer.gate_up, layer.down)]
        held = [*packed, self._head.units, *([] if self._embedding is None else [self._embedding])]
        return {
            "weight_bytes": sum(t.numel() * t.element_size() for t in held),
            "kv_cache_bytes": self._cache.numel() * self._cache.element_size(),
        }

    def _load_layer(self, weights: Weights, number: int) -> _Layer:
        tensors = read_layer(weights, self.architecture, number)
        packed = [pack_linear(parts, self._dtype) for parts in tensors.fused]
        norms = (t.float().contiguous().clone() for t in (tensors.input_norm, tensors.attention_norm))
        return _Layer(*norms, *packed)

    def _embed(self, token_ids: np.ndarray) -> torch.Tensor:
        ids = torch.from_numpy(token_ids)
        if self._embedding is not None:
            return self._embedding[ids].float()
        # The tied table is kept once, packed for the head: a token's row is one lane of its block.
        units = self._head.units[ids // BLOCK, :, ids % BLOCK].contiguous()
        return units.view(self._dtype).view(len(ids), self.architecture.hidden).float()

    def _normalise(self, x: torch.Tensor, weight: torch.Tensor, rows: int) -> None:
        self._kernels.run(
            kernels.NORM, self._number, rows, x.data_ptr(), weight.data_ptr(), self._workspace.hidden.data_ptr(),
            self.architecture.hidden, self._epsilon,
        )  # fmt: skip

    def _product(self, x: torch.Tensor, w: PackedLinear, out: torch.Tensor, rows: int, add: bool = False) -> None:
        self._kernels.run(
            kernels.LINEAR, self._number, int(add), rows, w.units.data_ptr(), x.data_ptr(), out.data_ptr(), w.steps,
            w.blocks, out.shape[1],
        )  # fmt: skip

    def _linear(
        self,
        plan: "_Plan",
        layer: int,
        first: int,
        x: torch.Tensor,
        w: PackedLinear,
        out: torch.Tensor,
        rows: int,
        add: bool = False,
    ) -> None:
        """Compute fused projections, of which `first` is the first, with the adapters of the rows."""
        self._product(x, w, out, rows, add)
        if plan.groups is None:
            return
        work, widths = self._workspace, self._workspace.widths[first]
        sums, shrunk = work.shrunk(plan.rank)
        entry, groups = layer * 7 + first, len(plan.groups)
        self._kernels.run(
            kernels.SHRINK, self._number, groups, plan.groups.ctypes.data, entry, len(widths), x.data_ptr(), w.steps,
            sums.data_ptr(), shrunk.data_ptr(), plan.rank,
        )  # fmt: skip
        self._kernels.run(
            kernels.EXPAND, self._number, groups, plan.groups.ctypes.data, entry, len(widths), widths.ctypes.data,
            shrunk.data_ptr(), out.data_ptr(), out.shape[1], plan.rank, int((-(-widths // BLOCK)).sum()),
        )  # fmt: skip

    def _attend(self, plan: "_Plan", layer: int, rows: int) -> None:
        shape, work = self.architecture, self._workspace
        keys, values = (self._cache[layer, part].data_ptr() for part in (0, 1))
        self._kernels.run(
            kernels.ROPE, self._number, rows, work.qkv.data_ptr(), work.queries.data_ptr(), keys, values,
            self._rotary.data_ptr(), plan.positions.ctypes.data, plan.slots.ctypes.data, shape.heads, shape.kv_heads,
            shape.head_dim, work.qkv.shape[1],
        )  # fmt: skip
        self._kernels.run(
            kernels.ATTEND, self._number, len(plan.spans), plan.spans.ctypes.data, work.queries.data_ptr(), keys,
            values, plan.page_table.ctypes.data, shape.heads, shape.kv_heads, shape.head_dim,
            work.attended.data_ptr(),
        )  # fmt: skip

    def _gate(self, rows: int) -> None:
        work, width = self._workspace, self.architecture.intermediate
        parts = 1 if rows > 8 else 4
        self._kernels.run(
            kernels.SILU, self._number, rows, work.gate_up.data_ptr(), work.gated.data_ptr(), width,
            work.gate_up.shape[1], parts,
        )  # fmt: skip


class _Workspace:
    """Memory for what a step computes on its way; made once."""

    def __init__(self, shape: Architecture, dtype: torch.dtype, rows: int) -> None:
        widths = {name: outputs for name, (outputs, _) in shape.projections.items()}
        self.widths: dict[int, np.ndarray] = {}
        first = 0
        for names in FUSED:
            self.widths[first] = np.array([widths[name] for name in names], dtype=np.int64)
            first += len(names)
        queries = shape.heads * shape.head_dim
        self.hidden = torch.empty(rows, shape.hidden, dtype=dtype)
        self.qkv = torch.empty(rows, _round_up(int(self.widths[0].sum())))
        self.queries, self.attended = (torch.empty(rows, queries, dtype=dtype) for _ in range(2))
        self.gate_up = torch.empty(rows, _round_up(2 * shape.intermediate))
        self.gated = torch.empty(rows, shape.intermediate, dtype=dtype)
        self._rows, self._dtype, self._rank = rows, dtype, 0
        self._shrunk: tuple[torch.Tensor, torch.Tensor] | None = None

    def shrunk(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return memory for products with A of this rank: float32 sums, and the same rounded."""
        if self._shrunk is None or rank > self._rank:
            size, self._rank = self._rows * 3 * rank, rank
            self._shrunk = torch.empty(size), torch.empty(size, dtype=self._dtype)
        return self._shrunk


class _Plan:
    """Arrays of a batch that the kernels read; they live as long as the step."""

    def __init__(self, batch: Batch, adapters: Sequence[PackedAdapter]) -> None:
        self.positions, self.slots = batch.positions, batch.slots
        spans, page_table, row = [], [], 0
        for chunk in batch.chunks:
            place = len(page_table)
            page_table += chunk.pages
            for start in range(0, len(chunk.token_ids), _QUERIES):
                rows = min(_QUERIES, len(chunk.token_ids) - start)
                spans.append((row + start, rows, chunk.position + start, place))
            row += len(chunk.token_ids)
        self.spans = np.array(spans, dtype=np.int64)
        self.page_table = np.array(page_table, dtype=np.int64)
        self.groups, self.rank = None, 0
        if batch.groups:
            used = [adapters[adapter] for _, _, adapter in batch.groups]
            self.rank = max(adapter.rank for adapter in used)
            self.groups = np.array(
                [(first, rows, a.table.ctypes.data) for (first, rows, _), a in zip(batch.groups, used, strict=True)],
                dtype=np.int64,
            )


def check_sizes(shape: Architecture) -> None:
    """Check that the kernels can compute a model of these sizes.

    Raises:
        InputError: they cannot.
    """
    for name, size in {"hidden_size": shape.hidden, "intermediate_size": shape.intermediate}.items():
        if size % LANES:
            raise InputError(f"{name} {size} is no multiple of {LANES}, as the CPU kernels need it")
    if shape.head_dim % LANES or shape.head_dim > kernels.MAX_HEAD:
        raise InputError(f"head dimension {shape.head_dim} is no multiple of {LANES} up to {kernels.MAX_HEAD}")


def pack_linear(parts: Sequence[torch.Tensor], dtype: torch.dtype, columns: int = BLOCK) -> PackedLinear:
    """Return weights [outputs, inputs], one below the other, in blocks of `columns` outputs, padded with zeros."""
    outputs = sum(len(part) for part in parts)
    blocks = -(-outputs // columns)
    units = parts[0].shape[1] * dtype.itemsize // 4
    packed = torch.empty(blocks, units, columns, dtype=torch.int32)
    row = 0
    for part in parts:
        words = part.to(dtype).contiguous().view(torch.int32)
        done = 0
        while done < len(words):
            block, lane = divmod(row, columns)
            count = min(columns - lane, len(words) - done)
            if lane == 0 and len(words) - done >= columns:
                whole = (len(words) - done) // columns
                count = whole * columns
                packed[block : block + whole].copy_(
                    words[done : done + count].view(whole, columns, units).transpose(1, 2)
                )
            else:
                packed[block, :, lane : lane + count].copy_(words[done : done + count].T)
            row, done = row + count, done + count
    if row < blocks * columns:
        packed[-1, :, row % columns :] = 0
    return PackedLinear(packed)


def _round_up(width: int) -> int:
    return -(-width // BLOCK) * BLOCK
