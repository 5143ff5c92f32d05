"""CpuModel: a Llama on our own CPU kernels: weights packed once, fused QKV and gate-up, a paged KV cache."""

import itertools
import logging
import math
import mmap
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from llama_platform.errors import InputError
from llama_platform.inference.torch_engine.architecture import Architecture
from llama_platform.inference.torch_engine.batch import PAGE, Batch
from llama_platform.inference.torch_engine.cpu import kernels
from llama_platform.inference.torch_engine.cpu.matrix_unit import MATRIX_STEPS, request_matrix_unit
from llama_platform.inference.torch_engine.cpu.products import Implementation, Products, ProductSetting, measure
from llama_platform.inference.torch_engine.cpu.tile import BLOCK, GROUP, LANES, WeightFormat
from llama_platform.inference.torch_engine.model import FUSED, LoraMatrices, Reading, read_layer, rotary_table
from llama_platform.models.weight_files import Weights

_ALIGNMENT = 64
_QUERIES = 24
"""Tokens of a prompt that one thread attends at a time on the vector units; whole tiles of six rows."""
_PADDING = 32
"""Values between rows, so that rows of a power of two do not all fall into the same lines of a cache."""
_MATRIX_LORA_ROWS = 8
"""From how many rows of one adapter on its products are computed on the matrix unit."""
_ROUNDED_ROWS = 256
"""Rows of weights that are rounded to 8 bits at a time."""
_MEASURED_FLOPS = 1e9
"""The most operations of a product that is timed; a larger one is timed on part of its columns."""
_READINGS = 6
"""How often the weights are read to find the best rate."""
PRODUCTS = ("qkv", "o", "gate_up", "down", "head")
"""Names of the products with weights."""
_PRODUCT_KERNELS: dict[tuple[bool, Implementation], int] = {
    (False, "vector"): kernels.LINEAR,
    (False, "matrix"): kernels.LINEAR_MATRIX,
    (True, "vector"): kernels.LINEAR_INT8,
    (True, "matrix"): kernels.LINEAR_INT8_MATRIX,
}
"""Kernel of a product, by whether its weights are in 8 bits."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """Weights [outputs, inputs] in blocks of 64 outputs; see tile.py."""

    units: torch.Tensor
    """int32 [blocks, steps, 64]: four bytes of one output each."""
    scales: torch.Tensor | None = None
    """float32 [blocks · 64], of int8 weights."""

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
        kind: WeightFormat,
        threads: int,
        positions: int,
        pages: int,
        max_rows: int,
        max_sampled: int,
        int8: bool = False,
        products: ProductSetting = "auto",
    ) -> None:
        """Load and pack the weights, and find the fastest products.

        Args:
            architecture: shape of the weights.
            weights: where they are.
            kind: what weights and KV cache are held in.
            threads: number of threads of computation.
            positions: the longest sequence.
            pages: size of the KV cache.
            max_rows: the most tokens of a step.
            max_sampled: the most sequences of a step.
            int8: whether weights are held in 8 bits, a scale for each output; activations are rounded in groups.
            products: how products are computed; `auto` times them.

        Raises:
            InputError: the sizes or the tensors do not fit the kernels.
            OSError: torch's OpenMP library offers no interface for the kernels.
        """
        check_sizes(architecture, int8)
        self.architecture, self._kind, self._number = architecture, kind, kernels.kind_number(kind)
        self._dtype = torch.bfloat16 if kind == "bf16" else torch.float32
        self._kernels = kernels.Kernels(threads)
        self._int8 = int8
        self._memory = _Arena(_packed_bytes(architecture, 1 if int8 else self._dtype.itemsize))
        self._layers = [self._load_layer(weights, number) for number in range(architecture.layers)]
        self._norm = weights.read("model.norm.weight", (architecture.hidden,)).float().contiguous().clone()
        embedding = weights.read("model.embed_tokens.weight", (architecture.vocab_size, architecture.hidden))
        tied = architecture.tied_embeddings or "lm_head.weight" not in weights
        self._embedding = None if tied else embedding.to(self._dtype, copy=True)
        if not tied:
            embedding = weights.read("lm_head.weight", tuple(embedding.shape))
        self._head = self._pack([embedding])
        self._rotary = rotary_table(architecture, positions)
        page_bytes = architecture.kv_heads * PAGE * architecture.head_dim * self._dtype.itemsize
        size_bytes = architecture.layers * 2 * pages * page_bytes
        self._cache = _Arena(size_bytes).take(architecture.layers, 2, pages * page_bytes // 4).view(self._dtype)
        self._pages = self._cache.view(architecture.layers, 2, pages, -1)
        self._workspace = _Workspace(architecture, self._dtype, max_rows, max_sampled, self._head.blocks * BLOCK)
        self._epsilon = struct.unpack("<i", struct.pack("<f", architecture.norm_epsilon))[0]
        self.products = self._measure_products(products)
        self._programs = [self._write_program(adapters) for adapters in (False, True)]

    def forward(self, batch: Batch, adapters: Sequence[PackedAdapter]) -> torch.Tensor:
        """Compute a step; see Model. The logits are overwritten by the next step."""
        work, sampled = self._workspace, len(batch.sampled_rows)
        if len(batch.begun_pages):
            self._pages[:, :, torch.from_numpy(batch.begun_pages)] = 0
        work.residual[: batch.rows] = self._embed(batch.token_ids)
        plan = _Plan(batch, adapters, work, self.products.use_matrix_unit)
        plan.values |= self._product_kernels(batch.rows, sampled)
        program = self._programs[batch.groups != ()]
        self._kernels.run(program.with_values(plan.values))
        return work.logits[:sampled, : self.architecture.vocab_size]

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
        self._cache.zero_()

    def memory(self) -> dict[str, int]:
        """Return bytes of weights and KV cache; see Model."""
        packed = [p.units for layer in self._layers for p in (layer.qkv, layer.o, layer.gate_up, layer.down)]
        held = [*packed, self._head.units, *([] if self._embedding is None else [self._embedding])]  # scales: < 1 %
        return {
            "weight_bytes": sum(t.numel() * t.element_size() for t in held),
            "kv_cache_bytes": self._cache.numel() * self._cache.element_size(),
        }

    def products_in_words(self) -> dict[str, str]:
        """Return which unit of the processor computes each product; see Model."""
        return self.products.summary()

    def _load_layer(self, weights: Weights, number: int) -> _Layer:
        tensors = read_layer(weights, self.architecture, number)
        packed = [self._pack(parts) for parts in tensors.fused]
        input_norm, attention_norm = (t.float().clone() for t in (tensors.input_norm, tensors.attention_norm))
        return _Layer(input_norm, attention_norm, *packed)

    def _pack(self, parts: Sequence[torch.Tensor]) -> PackedLinear:
        if self._int8:
            return pack_int8(parts, self._memory.take)
        return pack_linear(parts, self._dtype, take=self._memory.take)

    def _embed(self, token_ids: np.ndarray) -> torch.Tensor:
        ids = torch.from_numpy(token_ids)
        if self._embedding is not None:
            return self._embedding[ids].float()
        # The tied table is kept once, packed for the head: a token's row is one lane of its block.
        units = self._head.units[ids // BLOCK, :, ids % BLOCK].contiguous()
        if self._head.scales is not None:
            return (units.view(torch.uint8).float() - 128) * self._head.scales[ids, None]
        return units.view(self._dtype).view(len(ids), self.architecture.hidden).float()

    def _write_program(self, adapters: bool) -> "_Program":
        """Return the kernels of a step, in order; what changes from step to step is given by name."""
        shape, work, program = self.architecture, self._workspace, _Program(self._number)

        def norm(weight: torch.Tensor, rows: str = "rows", which: str | int = 0) -> None:
            program.add(
                kernels.NORM, rows, work.residual, weight, work.hidden, shape.hidden, self._epsilon, which,
                work.hidden.stride(0),
            )  # fmt: skip

        def fused(
            name: str, layer: int, first: int, x: torch.Tensor, w: PackedLinear, out: torch.Tensor, add: bool = False
        ) -> None:
            self._add_product(program, name, x, w, out, add)
            if adapters:
                widths, entry = work.widths[first], layer * 7 + first
                units = x.element_size() / 4
                program.add(
                    kernels.SHRINK, "groups", "group_table", entry, len(widths), x, int(x.shape[1] * units), "sums",
                    "shrunk", "rank", int(x.stride(0) * units), "many",
                )  # fmt: skip
                program.add(
                    kernels.EXPAND, "groups", "group_table", entry, len(widths), widths, "shrunk", out, out.shape[1],
                    "rank", int((-(-widths // BLOCK)).sum()), "many",
                )  # fmt: skip

        for number, layer in enumerate(self._layers):
            keys, values = self._cache[number]
            norm(layer.input_norm)
            fused("qkv", number, 0, work.hidden, layer.qkv, work.qkv)
            program.add(
                kernels.ROPE, "rows", work.qkv, work.queries, keys, values, self._rotary, "positions", "slots",
                shape.heads, shape.kv_heads, shape.head_dim, work.qkv.shape[1],
            )  # fmt: skip
            program.add(
                kernels.ATTEND, "spans", "span_table", work.queries, keys, values, "page_table", shape.heads,
                shape.kv_heads, shape.head_dim, work.attended, work.attended.stride(0), "matrix",
            )  # fmt: skip
            fused("o", number, 3, work.attended, layer.o, work.residual, add=True)
            norm(layer.attention_norm)
            fused("gate_up", number, 4, work.hidden, layer.gate_up, work.gate_up)
            program.add(
                kernels.SILU, "rows", work.gate_up, work.gated, shape.intermediate, work.gate_up.shape[1], "parts",
                work.gated.stride(0),
            )  # fmt: skip
            fused("down", number, 6, work.gated, layer.down, work.residual, add=True)
        norm(self._norm, "sampled", "sampled_rows")
        self._add_product(program, "head", work.hidden, self._head, work.logits, add=False)
        return program

    def _add_product(
        self,
        program: "_Program",
        name: str,
        x: torch.Tensor,
        w: PackedLinear,
        out: torch.Tensor,
        add: bool,
        blocks: int | None = None,
    ) -> None:
        """Add a product with weights; which kernel computes it, and how many rows, is known when a step begins."""
        blocks, rows = w.blocks if blocks is None else blocks, f"rows of {name}"
        x_stride = x.stride(0) * x.element_size() // 4
        if w.scales is None:
            program.add(name, int(add), rows, w.units, x, out, w.steps, blocks, out.shape[1], x_stride)
            return
        quantized, scales, beginnings = self._workspace.quantized
        program.add(
            kernels.QUANTIZE, f"rounded rows of {name}", x, x.shape[1], quantized, scales, beginnings, x.stride(0)
        )
        program.add(
            name, int(add), rows, w.units, w.scales, quantized, scales, beginnings, out, x.shape[1] // GROUP, blocks,
            out.shape[1], x, x_stride,
        )  # fmt: skip

    def _product_kernels(self, rows: int, sampled: int) -> dict[str, int]:
        """Return the values of the products in a program: kernels and numbers of rows."""
        values: dict[str, int] = {}
        for name in PRODUCTS:
            of_product = sampled if name == "head" else rows
            values |= self._product_values(name, of_product, self.products.choose(name, of_product))
        return values

    def _product_values(self, name: str, rows: int, implementation: Implementation) -> dict[str, int]:
        number = _PRODUCT_KERNELS[self._int8, implementation]
        rounded = rows if number == kernels.LINEAR_INT8 else 0
        return {name: number, f"rows of {name}": rows, f"rounded rows of {name}": rounded}

    def reading(self) -> Reading:
        """Return how fast the weights can be read: by torch's reduction or by products of one row; see Model."""
        layers = [getattr(layer, name) for layer in self._layers for name in PRODUCTS if name != "head"]
        values = [packed.units.view(torch.float32).view(-1) for packed in (*layers, self._head)]
        program, best = self._products_of_one_row(), math.inf
        for _ in range(_READINGS):
            for work in (lambda: [part.amax() for part in values], lambda: self._kernels.run(program)):
                start = time.perf_counter()
                work()
                best = min(best, time.perf_counter() - start)
        size_bytes = 4 * sum(part.numel() for part in values)
        return Reading(size_bytes, size_bytes / best / 1e9)

    def _products_of_one_row(self) -> np.ndarray:
        """Return a program that multiplies one row with every weight and does nothing else."""
        program, places = _Program(self._number), self._places()
        values: dict[str, int] = {}
        for name, (x, out) in places.items():
            for weights in [self._head] if name == "head" else [getattr(layer, name) for layer in self._layers]:
                self._add_product(program, name, x, weights, out, add=False)
            values |= self._product_values(name, 1, self.products.choose(name, 1))
        return program.with_values(values)

    def _places(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Return what each product multiplies, and where its result goes."""
        work = self._workspace
        return {
            "qkv": (work.hidden, work.qkv),
            "o": (work.attended, work.residual),
            "gate_up": (work.hidden, work.gate_up),
            "down": (work.gated, work.residual),
            "head": (work.hidden, work.logits),
        }

    def _measure_products(self, setting: ProductSetting) -> Products:
        """Time the products on this model's own weights, each time on another layer's: they come from memory."""
        work, layers, turn, places = self._workspace, self._layers, itertools.count(), self._places()
        for tensor in (work.hidden, work.attended, work.gated):
            tensor.zero_()

        def run(name: str, rows: int, implementation: Implementation) -> None:
            x, out = places[name]
            weights = self._head if name == "head" else getattr(layers[next(turn) % len(layers)], name)
            rows = min(rows, len(x), len(out))
            blocks = max(1, min(weights.blocks, int(_MEASURED_FLOPS / (2 * rows * x.shape[1] * BLOCK))))
            program = _Program(self._number)
            self._add_product(program, name, x, weights, out, add=False, blocks=blocks)
            self._kernels.run(program.with_values(self._product_values(name, rows, implementation)))

        available = self._kind == "bf16" and self._fits_matrix_unit() and request_matrix_unit()
        found = measure(PRODUCTS, setting, available, run)
        if setting == "matrix" and not found.use_matrix_unit:
            _log.warning("engine.products matrix: there is no matrix unit for this base here, vector is used")
        return found

    def _fits_matrix_unit(self) -> bool:
        shape = self.architecture
        inner = (shape.hidden, shape.heads * shape.head_dim, shape.intermediate, shape.head_dim)
        return all(size % (2 * MATRIX_STEPS) == 0 for size in inner)


class _Program:
    """Rows of kernels, with places for values that are known when a step begins."""

    def __init__(self, kind: int) -> None:
        self._kind = kind
        self._rows: list[list[int]] = []
        self._places: dict[str, list[tuple[int, int]]] = {}
        self._array: np.ndarray | None = None

    def add(self, kernel: int | str, *values: "int | str | torch.Tensor | np.ndarray") -> None:
        """Add a kernel; tensors and arrays stand for their addresses, names for what `with_values` will be given."""
        row = [0]
        for value in (kernel, self._kind, *values):
            if isinstance(value, str):
                self._places.setdefault(value, []).append((len(self._rows), len(row)))
                row.append(0)
            elif isinstance(value, torch.Tensor):
                row.append(value.data_ptr())
            else:
                row.append(value.ctypes.data if isinstance(value, np.ndarray) else value)
        self._rows.append(row + [0] * (kernels.WORDS - len(row)))

    def with_values(self, values: Mapping[str, int]) -> np.ndarray:
        """Return the program with these values in their places; it is the same array each time."""
        if self._array is None:
            self._array = np.array(self._rows, dtype=np.int64)
            places = [place for name in self._places for place in self._places[name]]
            self._changing = np.array([row * kernels.WORDS + column for row, column in places])
            self._repeats = np.array([len(found) for found in self._places.values()])
        known = np.array([values[name] for name in self._places], dtype=np.int64)
        self._array.reshape(-1)[self._changing] = known.repeat(self._repeats)
        return self._array


class _Workspace:
    """Memory for what a step computes on its way; made once."""

    def __init__(self, shape: Architecture, dtype: torch.dtype, rows: int, sampled: int, vocabulary: int) -> None:
        widths = {name: outputs for name, (outputs, _) in shape.projections.items()}
        self.widths: dict[int, np.ndarray] = {}
        first = 0
        for names in FUSED:
            self.widths[first] = np.array([widths[name] for name in names], dtype=np.int64)
            first += len(names)
        queries = shape.heads * shape.head_dim
        self.residual = torch.empty(rows, shape.hidden)
        self.logits = torch.empty(sampled, vocabulary)
        self.hidden = _spaced(rows, shape.hidden, dtype)
        self.qkv = torch.empty(rows, _round_up(int(self.widths[0].sum())))
        self.queries, self.attended = torch.empty(rows, queries, dtype=dtype), _spaced(rows, queries, dtype)
        self.gate_up = torch.empty(rows, _round_up(2 * shape.intermediate))
        self.gated = _spaced(rows, shape.intermediate, dtype)
        inner = max(queries, shape.hidden, shape.intermediate)
        self.quantized = (
            torch.empty(rows, inner, dtype=torch.int8),
            torch.empty(rows, inner // GROUP),
            torch.empty(rows, inner // GROUP, dtype=torch.int32),
        )
        """int8 activations, and for each group its scale and where its sum begins."""
        self._rows, self._dtype, self._rank = rows, dtype, 0
        self._shrunk: tuple[torch.Tensor, torch.Tensor] | None = None

    def shrunk(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return memory for products with A of this rank: float32 sums, and the same rounded."""
        if self._shrunk is None or rank > self._rank:
            size, self._rank = self._rows * 3 * rank, rank
            self._shrunk = torch.empty(size), torch.empty(size, dtype=self._dtype)
        return self._shrunk


class _Plan:
    """Arrays of a batch that the kernels read, which live as long as the step, and the values of its program."""

    def __init__(self, batch: Batch, adapters: Sequence[PackedAdapter], work: _Workspace, on_matrix_unit: bool) -> None:
        most = kernels.QUERIES if on_matrix_unit else _QUERIES
        spans: list[tuple[int, int, int, int]] = []
        pages: list[int] = []
        row = 0
        for chunk in batch.chunks:
            place = len(pages)
            pages += chunk.pages
            for start in range(0, len(chunk.token_ids), most):
                rows = min(most, len(chunk.token_ids) - start)
                spans.append((row + start, rows, chunk.position + start, place))
            row += len(chunk.token_ids)
        span_table, page_table = np.array(spans, dtype=np.int64), np.array(pages, dtype=np.int64)
        arrays = {
            "positions": batch.positions,
            "slots": batch.slots,
            "sampled_rows": batch.sampled_rows,
            "span_table": span_table,
            "page_table": page_table,
        }
        self.values = {
            "rows": batch.rows,
            "sampled": len(batch.sampled_rows),
            "spans": len(spans),
            "matrix": int(on_matrix_unit),
            "parts": 1 if batch.rows > 8 else 4,
        }
        if batch.groups:
            used = [adapters[adapter] for _, _, adapter in batch.groups]
            arrays["group_table"] = np.array(
                [(first, rows, a.table.ctypes.data) for (first, rows, _), a in zip(batch.groups, used, strict=True)],
                dtype=np.int64,
            )
            rank = max(adapter.rank for adapter in used)
            sums, shrunk = work.shrunk(rank)
            self.values |= {"groups": len(used), "rank": rank, "sums": sums.data_ptr(), "shrunk": shrunk.data_ptr()}
            self.values["many"] = _MATRIX_LORA_ROWS * on_matrix_unit
        self.values |= {name: array.ctypes.data for name, array in arrays.items()}
        self._arrays = arrays


def check_sizes(shape: Architecture, int8: bool = False) -> None:
    """Check that the kernels can compute a model of these sizes.

    Raises:
        InputError: they cannot.
    """
    attended = {"num_attention_heads × head_dim": shape.heads * shape.head_dim} if int8 else {}
    for name, size in {"hidden_size": shape.hidden, "intermediate_size": shape.intermediate, **attended}.items():
        if size % (GROUP if int8 else LANES):
            raise InputError(f"{name} {size} is no multiple of {GROUP if int8 else LANES}, as the CPU kernels need it")
    if int8 and not kernels.HAS_INT8:
        raise InputError("engine.weights int8 needs a processor with AVX-512 VNNI")
    if shape.head_dim % LANES or shape.head_dim > kernels.MAX_HEAD:
        raise InputError(f"head dimension {shape.head_dim} is no multiple of {LANES} up to {kernels.MAX_HEAD}")


class _Arena:
    """Zeros in huge pages where the system has them: reading weights is bound by memory, also by its page tables."""

    def __init__(self, size_bytes: int) -> None:
        memory = mmap.mmap(-1, size_bytes + _ALIGNMENT)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        self._units = torch.frombuffer(memory, dtype=torch.int32)
        self._used = 0

    def take(self, *shape: int) -> torch.Tensor:
        """Return int32 zeros, aligned for vectors."""
        start, size = self._used, math.prod(shape)
        self._used = start + -(-size // _ALIGNMENT) * _ALIGNMENT
        return self._units[start : start + size].view(shape)


def _packed_bytes(shape: Architecture, item_bytes: int) -> int:
    """Return the memory of all packed weights."""
    outputs = {name: size for name, (size, _) in shape.projections.items()}
    inputs = {name: size for name, (_, size) in shape.projections.items()}
    fused = [(_round_up(sum(outputs[name] for name in names)), inputs[names[0]]) for names in FUSED]
    layer = sum(rows * columns * item_bytes + 4 * _ALIGNMENT for rows, columns in fused)
    return shape.layers * layer + _round_up(shape.vocab_size) * shape.hidden * item_bytes + 4 * _ALIGNMENT


def pack_linear(
    parts: Sequence[torch.Tensor],
    dtype: torch.dtype,
    columns: int = BLOCK,
    take: Callable[..., torch.Tensor] | None = None,
) -> PackedLinear:
    """Return weights [outputs, inputs], one below the other, in blocks of `columns` outputs, padded with zeros.

    Args:
        parts: float tensors of the same number of inputs.
        dtype: type of the packed values.
        columns: number of columns of a block.
        take: returns int32 memory of a shape; None for fresh memory.
    """
    return PackedLinear(_pack_words([part.to(dtype).contiguous().view(torch.int32) for part in parts], columns, take))


def pack_int8(parts: Sequence[torch.Tensor], take: Callable[..., torch.Tensor] | None = None) -> PackedLinear:
    """Return weights as `pack_linear` does, rounded to 8 bits with a scale for each output; stored plus 128.

    Args:
        parts: float [outputs, inputs] each, of one number of inputs; their float32 scales are [outputs, padded to a
            whole block].
        take: returns int32 memory of a shape; None allocates.
    """
    rounded = [_rounded(part) for part in parts]
    packed = _pack_words([values.view(torch.int32) for values, _ in rounded], BLOCK, take)
    whole = torch.cat([scales for _, scales in rounded])
    return PackedLinear(packed, torch.nn.functional.pad(whole, (0, packed.shape[0] * BLOCK - len(whole))))


def _rounded(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (uint8 of the shape of `part`, its values plus 128; float32 scale of each row)."""
    values, scales = torch.empty(part.shape, dtype=torch.uint8), torch.empty(len(part))
    exact, magnitude = torch.empty(2, min(_ROUNDED_ROWS, len(part)), part.shape[1])
    for start in range(0, len(part), _ROUNDED_ROWS):  # few rows at a time, so that they stay in the cache
        rows = slice(start, min(start + _ROUNDED_ROWS, len(part)))
        some, count = exact[: rows.stop - start].copy_(part[rows]), rows.stop - start
        scale = torch.abs(some, out=magnitude[:count]).amax(dim=1).clamp_min_(1e-12).div_(127)
        values[rows] = some.div_(scale[:, None]).round_().add_(128)
        scales[rows] = scale
    return values, scales


def _pack_words(parts: Sequence[torch.Tensor], columns: int, take: Callable[..., torch.Tensor] | None) -> torch.Tensor:
    outputs = sum(len(part) for part in parts)
    blocks = -(-outputs // columns)
    units = parts[0].shape[1]
    packed = (take or partial(torch.empty, dtype=torch.int32))(blocks, units, columns)
    row = 0
    for words in parts:
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
    return packed


def _spaced(rows: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Return memory for rows with some distance between them."""
    return torch.empty(rows, width + _PADDING, dtype=dtype)[:, :width]


def _round_up(width: int) -> int:
    return -(-width // BLOCK) * BLOCK
