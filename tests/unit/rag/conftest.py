import hashlib

import numpy as np
import pytest


class FakeEmbedder:
    """Bags of hashed words: texts that share words are similar."""

    name = "fake"
    max_tokens = 50

    def embed(self, texts):
        vectors = np.zeros((len(texts), 64), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors[row, int(hashlib.md5(word.encode()).hexdigest(), 16) % 64] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    def count_tokens(self, text):
        return len(text.split())


@pytest.fixture
def embedder():
    return FakeEmbedder()
