"""TorchModel: a Llama on torch's own operations: for GPUs, and for processors without the CPU kernels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from llama_platform.inference.torch_engine.architecture import Architecture
from llama_platform.inference.torch_engine.batch import PAGE, Batch, Chunk
from llama_platform.inference.torch_engine.model import FUSED, LoraMatrices, read_layer, rotary_table
from llama_platform.inference.torch_engine.weights import Weights

_GRAPH_ROWS = (1, 2, 4, 8, 16, 24, 32)
"""Numbers of rows for which decoding is captured; others are padded to the next."""


@dataclass(frozen=True, slots=True)
class _Layer:
    input_norm: torch.Tensor
    attention_norm: torch.Tensor
    fused: tuple[torch.Tensor, ...]
    """[outputs, inputs] of qkv, o, gate-up and down."""


@dataclass(frozen=True, slots=True)
class TorchAdapter:
    """LoRA matrices on the device, by layer and projection."""

    matrices: Mapping[tuple[int, str], tuple[torch.Tensor, torch.Tensor]]

    @property
    def size_bytes(self) -> int:
        """Return the memory it takes."""
        return sum(t.numel() * t.element_size() for pair in self.matrices.values() for t in pair)


class TorchModel:
    """A loaded Llama; see Model."""

    def __init__(
        self,
        architecture: Architecture,
        weights: Weights,
        dtype: torch.dtype,
        device: torch.device,
        positions: int,
        pages: int,
    ) -> None:
        """Load the weights.

        Args:
            architecture: shape of the weights.
            weights: where they are.
            dtype: what weights and KV cache are held in.
            device: where.
            positions: the longest sequence.
            pages: size of the KV cache; one more page is kept for rows that only fill a captured batch.

        Raises:
            InputError: the tensors do not fit.
        """
        self.architecture, self._dtype, self._device = architecture, dtype, device

        def held(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, dtype, copy=True)

        self._layers = []
        for number in range(architecture.layers):
            tensors = read_layer(weights, architecture, number)
            fused = tuple(torch.cat([held(part) for part in parts]) for parts in tensors.fused)
            self._layers.append(_Layer(held(tensors.input_norm), held(tensors.attention_norm), fused))
        self._norm = held(weights.read("model.norm.weight", (architecture.hidden,)))
        shape = (architecture.vocab_size, architecture.hidden)
        self._embedding = held(weights.read("model.embed_tokens.weight", shape))
        tied = architecture.tied_embeddings or "lm_head.weight" not in weights
        self._head = self._embedding if tied else held(weights.read("lm_head.weight", shape))
        table = rotary_table(architecture, positions).to(device)
        self._cos, self._sin = table.chunk(2, dim=1)
        self._spare_page = pages
        cache = (architecture.layers, 2, pages + 1, PAGE, architecture.kv_heads, architecture.head_dim)
        self._cache = torch.zeros(cache, dtype=dtype, device=device)
        self._graphs: dict[tuple[int, int], _Graph] = {}

    @torch.inference_mode()
    def forward(self, batch: Batch, adapters: Sequence[TorchAdapter]) -> torch.Tensor:
        """Compute a step; see Model."""
        if len(batch.begun_pages):
            self._cache[:, :, self._on_device(batch.begun_pages)] = 0
        decoding = all(len(chunk.token_ids) == 1 for chunk in batch.chunks)
        if self._device.type == "cuda" and decoding and not batch.groups and batch.rows <= _GRAPH_ROWS[-1]:
            return self._replay(batch)
        ids, positions, slots = (self._on_device(a) for a in (batch.token_ids, batch.positions, batch.slots))
        x = functional.embedding(ids, self._embedding)
        for number, layer in enumerate(self._layers):
            h = self._normalise(x, layer.input_norm)
            qkv = self._linear(batch, adapters, number, 0, h, layer.fused[0])
            queries = self._rotate_and_store(number, qkv, positions, slots)
            attended = self._attend(number, queries, batch.chunks)
            x = x + self._linear(batch, adapters, number, 1, attended, layer.fused[1])
            h = self._normalise(x, layer.attention_norm)
            gate, up = self._linear(batch, adapters, number, 2, h, layer.fused[2]).chunk(2, dim=1)
            x = x + self._linear(batch, adapters, number, 3, functional.silu(gate) * up, layer.fused[3])
        last = self._normalise(x[self._on_device(batch.sampled_rows)], self._norm)
        return functional.linear(last, self._head).float().cpu()

    def pack_adapter(self, matrices: LoraMatrices) -> TorchAdapter:
        """Put LoRA matrices on the device; see Model."""
        return TorchAdapter(
            {place: tuple(t.to(self._device, self._dtype) for t in pair) for place, pair in matrices.items()}  # type: ignore[misc]
        )

    def reset_cache(self) -> None:
        """Fill the KV cache with zeros; see Model."""
        self._cache.zero_()

    def memory(self) -> dict[str, int]:
        """Return bytes of weights and KV cache; see Model."""
        held = [t for layer in self._layers for t in layer.fused] + [self._embedding]
        held += [] if self._head is self._embedding else [self._head]
        return {
            "weight_bytes": sum(t.numel() * t.element_size() for t in held),
            "kv_cache_bytes": self._cache.numel() * self._cache.element_size(),
        }

    def _on_device(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)

    def _normalise(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, (x.shape[-1],), weight, self.architecture.norm_epsilon)

    def _linear(
        self,
        batch: Batch,
        adapters: Sequence[TorchAdapter],
        layer: int,
        fused: int,
        x: torch.Tensor,
        weight: torch.Tensor,
    ) -> torch.Tensor:
        """Compute fused projections with the adapters of the rows; rows of one adapter lie beside each other."""
        out = functional.linear(x, weight)
        for first, rows, adapter in batch.groups:
            part, column = slice(first, first + rows), 0
            for name in FUSED[fused]:
                width = self.architecture.projections[name][0]
                if (pair := adapters[adapter].matrices.get((layer, name))) is not None:
                    out[part, column : column + width] += (x[part] @ pair[0].T) @ pair[1].T
                column += width
        return out

    def _rotate_and_store(
        self, layer: int, qkv: torch.Tensor, positions: torch.Tensor, slots: torch.Tensor
    ) -> torch.Tensor:
        """Return rotated queries [rows, heads, head_dim], and put keys and values into the cache."""
        shape = self.architecture
        heads = qkv.view(len(qkv), shape.heads + 2 * shape.kv_heads, shape.head_dim)
        rotated, values = heads[:, : shape.heads + shape.kv_heads].float(), heads[:, shape.heads + shape.kv_heads :]
        low, high = rotated.chunk(2, dim=2)
        cos, sin = self._cos[positions][:, None], self._sin[positions][:, None]
        rotated = torch.cat([low * cos - high * sin, high * cos + low * sin], dim=2).to(self._dtype)
        queries, keys = rotated[:, : shape.heads], rotated[:, shape.heads :]
        flat = self._cache[layer].view(2, -1, shape.kv_heads, shape.head_dim)
        flat[0].index_copy_(0, slots, keys)
        flat[1].index_copy_(0, slots, values)
        return queries

    def _attend(self, layer: int, queries: torch.Tensor, chunks: Sequence[Chunk]) -> torch.Tensor:
        """Attend the chunks: single tokens of equal page counts together, pieces of prompts one by one."""
        out, row = torch.empty_like(queries), 0
        single: list[tuple[int, Chunk]] = []
        for chunk in chunks:
            if len(chunk.token_ids) == 1:
                single.append((row, chunk))
            else:
                part = slice(row, row + len(chunk.token_ids))
                out[part] = self._attend_prompt(layer, queries[part], chunk)
            row += len(chunk.token_ids)
        if single:
            rows = torch.tensor([row for row, _ in single], device=self._device)
            longest = max(len(_used_pages(chunk)) for _, chunk in single)
            pages = torch.tensor(
                [[*_used_pages(c), *[self._spare_page] * (longest - len(_used_pages(c)))] for _, c in single],
                device=self._device,
            )
            seen = torch.tensor([chunk.position + 1 for _, chunk in single], device=self._device)
            out[rows] = self._attend_single(layer, queries[rows], pages, seen)
        return out.view(len(queries), -1)

    def _attend_prompt(self, layer: int, queries: torch.Tensor, chunk: Chunk) -> torch.Tensor:
        pages = torch.tensor(_used_pages(chunk), device=self._device)
        end = chunk.position + len(queries)
        keys, values = (self._cache[layer, part][pages].flatten(0, 1)[:end].transpose(0, 1)[None] for part in (0, 1))
        mask = None
        if chunk.position:
            mask = torch.ones(len(queries), end, dtype=torch.bool, device=self._device).tril(chunk.position)
        attended = functional.scaled_dot_product_attention(
            queries.transpose(0, 1)[None], keys, values, attn_mask=mask, is_causal=mask is None,
            enable_gqa=self.architecture.kv_heads != self.architecture.heads,
        )  # fmt: skip
        return attended[0].transpose(0, 1)

    def _attend_single(
        self, layer: int, queries: torch.Tensor, pages: torch.Tensor, seen: torch.Tensor
    ) -> torch.Tensor:
        """Attend one query per sequence.

        Args:
            layer: whose cache is read.
            queries: [sequences, heads, head_dim].
            pages: int64 [sequences, pages].
            seen: int64 [sequences], positions that each one sees.
        """
        keys, values = (self._cache[layer, part][pages].flatten(1, 2).transpose(1, 2) for part in (0, 1))
        mask = torch.arange(keys.shape[2], device=self._device) < seen[:, None]
        attended = functional.scaled_dot_product_attention(
            queries[:, :, None], keys, values, attn_mask=mask[:, None, None],
            enable_gqa=self.architecture.kv_heads != self.architecture.heads,
        )  # fmt: skip
        return attended[:, :, 0]

    def _decode(self, inputs: "_DecodeInputs") -> torch.Tensor:
        """Compute one token of each sequence from tensors of fixed size, as a captured graph needs it."""
        x = functional.embedding(inputs.token_ids, self._embedding)
        for number, layer in enumerate(self._layers):
            qkv = functional.linear(self._normalise(x, layer.input_norm), layer.fused[0])
            queries = self._rotate_and_store(number, qkv, inputs.positions, inputs.slots)
            attended = self._attend_single(number, queries, inputs.pages, inputs.positions + 1)
            x = x + functional.linear(attended.flatten(1), layer.fused[1])
            gate, up = functional.linear(self._normalise(x, layer.attention_norm), layer.fused[2]).chunk(2, dim=1)
            x = x + functional.linear(functional.silu(gate) * up, layer.fused[3])
        return functional.linear(self._normalise(x, self._norm), self._head).float()

    def _replay(self, batch: Batch) -> torch.Tensor:
        """Compute a decoding step with a captured graph: one launch in place of hundreds."""
        rows = next(size for size in _GRAPH_ROWS if size >= batch.rows)
        longest = max(len(_used_pages(chunk)) for chunk in batch.chunks)
        pages = 1 << (longest - 1).bit_length()
        graph = self._graphs.get((rows, pages))
        if graph is None:
            graph = self._graphs[rows, pages] = _Graph(self, _DecodeInputs.empty(rows, pages, self._device))
        graph.inputs.fill(batch, self._spare_page)
        return graph.run()[: batch.rows].cpu()


@dataclass(frozen=True, slots=True)
class _DecodeInputs:
    """int64 tensors that a captured graph reads."""

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    pages: torch.Tensor

    @classmethod
    def empty(cls, rows: int, pages: int, device: torch.device) -> "_DecodeInputs":
        """Return inputs of rows that are all padding."""
        vectors = [torch.zeros(rows, dtype=torch.int64, device=device) for _ in range(3)]
        token_ids, positions, slots = vectors
        return cls(token_ids, positions, slots, torch.zeros(rows, pages, dtype=torch.int64, device=device))

    def fill(self, batch: Batch, spare_page: int) -> None:
        """Write a batch; what is left over computes a first token in the spare page."""
        rows, pages = self.pages.shape
        table = np.full((rows, pages), spare_page, dtype=np.int64)
        for row, chunk in enumerate(batch.chunks):
            used = _used_pages(chunk)
            table[row, : len(used)] = used
        spare = (0, 0, spare_page * PAGE)
        for tensor, array, filler in zip(
            (self.token_ids, self.positions, self.slots), (batch.token_ids, batch.positions, batch.slots), spare,
            strict=True,
        ):  # fmt: skip
            padded = np.full(rows, filler, dtype=np.int64)
            padded[: batch.rows] = array
            tensor.copy_(torch.from_numpy(padded))
        self.pages.copy_(torch.from_numpy(table))


class _Graph:
    """A decoding step captured for one number of rows and pages."""

    def __init__(self, model: TorchModel, inputs: _DecodeInputs) -> None:
        self.inputs = inputs
        inputs.slots.fill_(model._spare_page * PAGE)
        inputs.pages.fill_(model._spare_page)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # what kernels set up at first use must not be captured
            for _ in range(2):
                model._decode(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits = model._decode(inputs)

    def run(self) -> torch.Tensor:
        """Return float32 logits [rows, vocabulary] of the inputs."""
        self._graph.replay()
        return self._logits


def _used_pages(chunk: Chunk) -> Sequence[int]:
    return chunk.pages[: (chunk.position + len(chunk.token_ids) + PAGE - 1) // PAGE]
