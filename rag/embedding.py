"""Embeddings: texts to vectors whose inner product is the similarity of the texts."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from llama_platform.errors import InputError
from rag.embedding_model import EmbeddingConfig, EmbeddingModel

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """Vectors of texts."""

    vectors: Vectors
    """float32 [len(texts), dimensions], every row of length 1."""
    tokens: int
    """Of all texts."""


class Embedder(Protocol):
    """Embeds texts."""

    @property
    def name(self) -> str:
        """Names the model."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identifies the model; an index remembers the one that made it."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens of a text beyond this are not read."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 [len(texts), dimensions], every row of length 1."""
        ...

    def count_tokens(self, text: str) -> int:
        """Return the tokens of a text, special tokens not counted."""
        ...

    def parts(self, text: str) -> list[str]:
        """Return a text in parts that are read whole; see `parts_of`."""
        ...

    def text_of(self, token_ids: Sequence[int]) -> str:
        """Return the text of the model's own tokens.

        Raises:
            InputError: one is none of them.
        """
        ...


class SentenceTransformerEmbedder:
    """Embeds with a sentence-transformers model, in batches of about as many tokens each.

    Texts are tokenized together and sorted by length, so that little of a batch is padding; the transformer computes
    in `dtype`, pooling and what follows in float32. One forward pass at a time: they share the threads.
    """

    def __init__(self, config: EmbeddingConfig, device: str = "cpu") -> None:
        """Load the model.

        Args:
            config: which model, its precision and threads.
            device: where it computes, as torch names it.

        Raises:
            InputError: it cannot be found or loaded.
        """
        import torch
        from sentence_transformers import SentenceTransformer

        if config.threads:
            torch.set_num_threads(config.threads)
        self.model = EmbeddingModel(config.model)
        try:
            loaded: Any = SentenceTransformer(str(self.model.folder), trust_remote_code=False, device=device)
        except (OSError, ValueError) as error:
            raise InputError(f"embedding.model {config.model!r}: cannot be loaded: {error}") from error
        self._modules = [module.eval() for module in loaded]
        self._modules[0].to(_dtype(config, device))
        self._tokenizer, self._device = loaded.tokenizer, device
        # One of its own: transformers' tokenizers change their settings with each call, and are not to be shared.
        self._counter = token_counter(self.model.tokenizer)
        self._batch_tokens, self._dimensions = config.batch_tokens, int(loaded.get_embedding_dimension())
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The configured model's name."""
        return self.model.name

    @property
    def fingerprint(self) -> str:
        """Of the model's files; see EmbeddingModel."""
        return self.model.fingerprint

    @property
    def max_tokens(self) -> int:
        """See EmbeddingModel."""
        return self.model.max_tokens

    def count_tokens(self, text: str) -> int:
        """Count with the model's own tokenizer; see Embedder."""
        return len(self._counter.encode(text, add_special_tokens=False).ids)

    def parts(self, text: str) -> list[str]:
        """Divide by the model's own tokens; see Embedder."""
        return parts_of(text, self._counter, self.max_tokens)

    def text_of(self, token_ids: Sequence[int]) -> str:
        """Decode with the model's own tokenizer; see Embedder."""
        known = self._counter.get_vocab_size()
        if unknown := [token for token in token_ids if token >= known]:
            raise InputError(f"{unknown[0]} is no token of '{self.name}', which has {known}")
        return str(self._counter.decode(list(token_ids)))

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed in batches; see Embedder."""
        import torch

        vectors = np.empty((len(texts), self._dimensions), dtype=np.float32)
        if not len(texts):
            return vectors
        with self._lock:
            longest = self.max_tokens + 2
            ids = self._tokenizer(list(texts), truncation=True, max_length=longest, return_attention_mask=False)
        tokens = ids["input_ids"]
        order = sorted(range(len(tokens)), key=lambda row: -len(tokens[row]))
        start = 0
        while start < len(order):
            rows = order[start : start + max(1, self._batch_tokens // len(tokens[order[start]]))]
            with self._lock, torch.inference_mode():  # a question may come in between
                vectors[rows] = self._forward([tokens[row] for row in rows])
            start += len(rows)
        return vectors

    def _forward(self, tokens_BT: list[list[int]]) -> Vectors:
        import torch
        from torch.nn.functional import normalize

        batch = self._tokenizer.pad({"input_ids": tokens_BT}, return_tensors="pt").to(self._device)
        features = self._modules[0](dict(batch))
        features["token_embeddings"] = features["token_embeddings"].to(torch.float32)
        for module in self._modules[1:]:
            features = module(features)
        found: Vectors = normalize(features["sentence_embedding"].float(), dim=1).cpu().numpy()
        return found


def parts_of(text: str, counter: Any, max_tokens: int, most: int = 8) -> list[str]:
    """Return a text in parts of at most `max_tokens` tokens; of a text with more than `most` parts, the last ones.

    Args:
        text: such as a question with a pasted text before it.
        counter: what `token_counter` returned.
        max_tokens: what the model reads.
        most: parts at most.
    """
    offsets = counter.encode(text, add_special_tokens=False).offsets
    if len(offsets) <= max_tokens:
        return [text]
    starts = range(len(offsets) % max_tokens, len(offsets), max_tokens)  # the last part, with the question, is whole
    begins = [0, *(offsets[number][0] for number in starts if number)]
    ends = [*begins[1:], len(text)]
    return [text[begin:end] for begin, end in zip(begins, ends, strict=True)][-most:]


def token_counter(tokenizer: str) -> Any:
    """Return a tokenizer that neither cuts nor pads, of the content of a `tokenizer.json`."""
    from tokenizers import Tokenizer

    counter = Tokenizer.from_str(tokenizer)
    counter.no_truncation()
    counter.no_padding()
    return counter


def _dtype(config: EmbeddingConfig, device: str) -> Any:
    import torch

    if config.dtype != "auto":
        return getattr(torch, config.dtype)
    if device != "cpu":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    features = torch.cpu.get_capabilities()
    return torch.bfloat16 if any(features.get(f) for f in ("avx512_bf16", "amx_bf16", "bf16")) else torch.float32
