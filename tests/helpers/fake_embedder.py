"""An embedder of hashed words, for tests: texts that share words are similar."""

import hashlib

import numpy as np

from llama_platform.errors import InputError


class FakeEmbedder:
    """Bags of words in 64 dimensions."""

    name = "fake"
    fingerprint = "f" * 64
    max_tokens = 50

    def __init__(self):
        self.embedded = []

    def embed(self, texts):
        self.embedded += texts
        vectors = np.zeros((len(texts), 64), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors[row, int(hashlib.md5(word.encode()).hexdigest(), 16) % 64] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    def count_tokens(self, text):
        return len(text.split())

    def parts(self, text):
        return [text]

    def text_of(self, token_ids):
        if max(token_ids) >= 100:
            raise InputError(f"{max(token_ids)} is no token of 'fake'")
        return " ".join(f"w{token}" for token in token_ids)
