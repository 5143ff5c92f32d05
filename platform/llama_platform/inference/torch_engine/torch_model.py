"""TorchModel: a Llama on torch's own operations: the plain reference, and for processors without the CPU kernels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from llama_platform.inference.torch_engine.architecture import Architecture
from llama_platform.inference.torch_engine.batch import PAGE, Batch, Chunk
from llama_platform.inference.torch_engine.model import FUSED, LoraMatrices, Reading, read_layer, rotary_table
from llama_platform.models.weight_files import Weights


@dataclass(frozen=True, slots=True)
class _Layer:
    input_norm: torch.Tensor
    attention_norm: torch.Tensor
    fused: tuple[torch.Tensor, ...]
    """[outputs, inputs] of qkv, o, gate-up and down."""


@dataclass(frozen=True, slots=True)
class TorchAdapter:
    """LoRA matrices by layer and projection."""

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
        positions: int,
        pages: int,
    ) -> None:
        """Load the weights.

        Args:
            architecture: shape of the weights.
            weights: where they are.
            dtype: what weights and KV cache are held in.
            positions: the longest sequence.
            pages: size of the KV cache.

        Raises:
            InputError: the tensors do not fit.
        """
        self.architecture, self._dtype = architecture, dtype

        def held(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(dtype, copy=True)

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
        self._cos, self._sin = rotary_table(architecture, positions).chunk(2, dim=1)
        cache = (architecture.layers, 2, pages, PAGE, architecture.kv_heads, architecture.head_dim)
        self._cache = torch.zeros(cache, dtype=dtype)

    @torch.inference_mode()
    def forward(self, batch: Batch, adapters: Sequence[TorchAdapter]) -> torch.Tensor:
        """Compute a step; see Model."""
        if len(batch.begun_pages):
            self._cache[:, :, torch.from_numpy(batch.begun_pages)] = 0
        ids, positions, slots = (torch.from_numpy(a) for a in (batch.token_ids, batch.positions, batch.slots))
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
        last = self._normalise(x[torch.from_numpy(batch.sampled_rows)], self._norm)
        return functional.linear(last, self._head).float()

    def pack_adapter(self, matrices: LoraMatrices) -> TorchAdapter:
        """Round LoRA matrices to the model's dtype; see Model."""
        return TorchAdapter({place: (a.to(self._dtype), b.to(self._dtype)) for place, (a, b) in matrices.items()})

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

    def products_in_words(self) -> dict[str, str]:
        """Return nothing: torch computes all; see Model."""
        return {}

    def reading(self) -> Reading | None:
        """Return None: it is not measured; see Model."""
        return None

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
        """Attend the chunks one by one, each to its own pages."""
        parts = torch.split(queries, [len(chunk.token_ids) for chunk in chunks])
        attended = [self._attend_chunk(layer, part, chunk) for part, chunk in zip(parts, chunks, strict=True)]
        return torch.cat(attended).view(len(queries), -1)

    def _attend_chunk(self, layer: int, queries: torch.Tensor, chunk: Chunk) -> torch.Tensor:
        end = chunk.position + len(queries)
        pages = torch.tensor(chunk.pages[: -(-end // PAGE)])
        keys, values = (self._cache[layer, part][pages].flatten(0, 1)[:end].transpose(0, 1)[None] for part in (0, 1))
        mask = None
        if chunk.position and len(queries) > 1:
            mask = torch.ones(len(queries), end, dtype=torch.bool).tril(chunk.position)
        attended = functional.scaled_dot_product_attention(
            queries.transpose(0, 1)[None], keys, values, attn_mask=mask, is_causal=chunk.position == 0,
            enable_gqa=self.architecture.kv_heads != self.architecture.heads,
        )  # fmt: skip
        return attended[0].transpose(0, 1)
