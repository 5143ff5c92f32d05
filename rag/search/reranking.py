"""Reranker: a cross-encoder that reads question and chunk together; slower than vectors, and often better."""

import threading
from collections.abc import Sequence
from typing import Any, Protocol

from llama_platform.errors import InputError
from rag.embedding_model import EmbeddingModel


class Reranker(Protocol):
    """Judges texts."""

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return from 0 to 1 for each text, how well it answers the question."""
        ...

    def count_tokens(self, question: str, texts: Sequence[str]) -> int:
        """Return the tokens of question and text, of all texts together.

        Raises:
            InputError: of one they are more than the model reads; `scores` would judge its beginning.
        """
        ...


class CrossEncoderReranker:
    """Judges with a cross-encoder of sentence-transformers; see Nogueira and Cho, «Passage Re-ranking with BERT»."""

    def __init__(self, model: str, device: str = "cpu") -> None:
        """Load a model with one output.

        Args:
            model: a hub name or a local folder.
            device: where it computes, as torch names it.

        Raises:
            InputError: it cannot be found, or is of another kind.
        """
        from sentence_transformers import CrossEncoder

        try:
            folder = str(EmbeddingModel(model).folder)
            self._model: Any = CrossEncoder(folder, trust_remote_code=False, device=device)
        except (OSError, ValueError) as error:
            raise InputError(
                f"rerank: model {model!r} cannot be loaded: {error}; "
                "give a hub name or a local folder of a cross-encoder"
            ) from error
        if self._model.config.num_labels != 1:
            raise InputError(
                f"rerank: model {model!r} has {self._model.config.num_labels} outputs instead of one; "
                "a cross-encoder that gives one score is needed"
            )
        self._lock = threading.Lock()

    def count_tokens(self, question: str, texts: Sequence[str]) -> int:
        """Count with the model's own tokenizer; see Reranker."""
        tokens, longest = 0, int(self._model.tokenizer.model_max_length)
        with self._lock:
            found = self._model.tokenizer([question] * len(texts), list(texts), truncation=False)["input_ids"]
        for place, ids in enumerate(found):
            if len(ids) > longest:
                raise InputError(f"documents.{place}: {len(ids)} tokens with the query; the reranker reads {longest}")
            tokens += len(ids)
        return tokens

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """Judge in one batch; see Reranker."""
        import torch

        with self._lock:
            found = self._model.predict(
                [(question, text) for text in texts], activation_fn=torch.nn.Sigmoid(), show_progress_bar=False
            )
        return [float(score) for score in found]
