"""Near duplicates: chats with almost the same words, found by MinHash and locality-sensitive hashing.

Broder, 1997, «On the resemblance and containment of documents»; datasketch does the work.
"""

from collections.abc import Sequence

import numpy as np
import xxhash
from datasketch import MinHash, MinHashLSH

from llama_platform.data.checks.words import words
from llama_platform.models.prompt import Message

NUM_PERM = 128
SHINGLE_WORDS = 3


def signature(messages: Sequence[Message]) -> bytes:
    """Return the MinHash of a chat's word triples: uint32 [NUM_PERM], as bytes.

    System turns do not count: a long one that many chats have would make all of them look alike.
    """
    parts = words("\n".join(message.content for message in messages if message.role != "system")) or [""]
    size = min(SHINGLE_WORDS, len(parts))
    shingles = {" ".join(parts[start : start + size]).encode() for start in range(len(parts) - size + 1)}
    minhash = MinHash(NUM_PERM, hashfunc=xxhash.xxh32_intdigest, scheme="affine32")
    minhash.update_batch(shingles)
    return np.asarray(minhash.hashvalues).astype(np.uint32).tobytes()


class NearDuplicates:
    """The signatures seen so far; memory is about a kilobyte for each."""

    def __init__(self, threshold: float) -> None:
        """Begin without chats.

        Args:
            threshold: share of common word triples (Jaccard) from which two chats are nearly the same.
        """
        self._threshold = threshold
        self._index = MinHashLSH(threshold, NUM_PERM)
        self._signatures: list[bytes] = []

    def add(self, signature: bytes) -> list[tuple[int, float]]:
        """Add a chat; return the earlier ones that it resembles, as (number, estimated Jaccard), best first.

        Chats are numbered from 0 in the order of adding.
        """
        values = np.frombuffer(signature, np.uint32)
        minhash = MinHash(
            NUM_PERM, hashvalues=values.astype(np.uint64), hashfunc=xxhash.xxh32_intdigest, scheme="affine32"
        )
        candidates = self._index.query(minhash)
        near = [(number, self._similarity(values, number)) for number in candidates]
        self._index.insert(len(self._signatures), minhash)
        self._signatures.append(signature)
        return sorted((pair for pair in near if pair[1] >= self._threshold), key=lambda pair: (-pair[1], pair[0]))

    def forget_last(self) -> None:
        """Take the chat back that was added last."""
        self._index.remove(len(self._signatures) - 1)
        self._signatures.pop()

    def _similarity(self, values: "np.ndarray[tuple[int], np.dtype[np.uint32]]", number: int) -> float:
        return float(np.mean(values == np.frombuffer(self._signatures[number], np.uint32)))
