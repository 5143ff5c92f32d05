"""Token masks: which tokens an answer's structure allows next.

Masks are computed on a thread of their own when the tokens of a step are chosen, beside the model's next step, and are
ready when that ends (as in XGrammar, Dong et al., 2024). Those of all answers are one piece of work: a mask takes
microseconds, and to wake a thread for each took ten times as long.
"""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np

from llama_platform.errors import InputError
from llama_platform.inference.structure import Structure, grammar_of

KEPT = 64
"""Structures whose compiled form is kept."""


class TokenMask:
    """The masks of one answer."""

    def __init__(self, matcher: Any, vocabulary: int, masks: "TokenMasks") -> None:
        """Begin with the first mask computed.

        Args:
            matcher: an LLMatcher of llguidance at the beginning of the answer.
            vocabulary: number of tokens of the model; those beyond the tokenizer's are never allowed.
            masks: computes the others.
        """
        self._matcher, self._vocabulary, self._masks = matcher, vocabulary, masks
        self.ended = False
        """Whether the answer is whole and nothing may follow."""
        self.work: Future[None] | None = None
        """Work that the mask is computed in; None while it waits for that to begin."""
        self._next: np.ndarray | Exception | None = None
        self.compute()

    def allowed(self) -> np.ndarray:
        """Return which tokens may come next, bool [vocabulary]; of these, at least one."""
        if self._next is None:
            if self.work is None:
                self._masks.compute()
            assert self.work is not None
            self.work.result()
        assert self._next is not None
        if isinstance(self._next, Exception):
            raise self._next
        return self._next

    def note(self, token: int) -> None:
        """Go on behind a chosen token."""
        self._matcher.consume_token(token)
        self.ended = bool(self._matcher.is_stopped())  # nobody may ask it while it computes
        if not self.ended:
            self._next, self.work = None, None
            self._masks.wait_for_work(self)

    def compute(self) -> None:
        """Compute the next mask; what goes wrong is raised by `allowed`."""
        try:
            self._next = self._compute()
        except Exception as error:  # one answer must not take the others with it
            self._next = error

    def _compute(self) -> np.ndarray:
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: self._vocabulary].astype(bool)
        if len(allowed) < self._vocabulary:
            allowed = np.pad(allowed, (0, self._vocabulary - len(allowed)))
        return allowed


class TokenMasks:
    """Makes the masks of answers for one tokenizer."""

    def __init__(self, tokenizer: Any, vocabulary: int, end_ids: frozenset[int]) -> None:
        """Prepare nothing yet: most engines are never asked.

        Args:
            tokenizer: the base's, a fast one of transformers.
            vocabulary: number of tokens of the model.
            end_ids: tokens that end an answer.
        """
        self._tokenizer, self._vocabulary, self._end_ids = tokenizer, vocabulary, end_ids
        self._known: Any = None
        self._reading = threading.Lock()
        self._matcher = lru_cache(maxsize=KEPT)(self._compile)
        self._waiting: list[TokenMask] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="masks")

    def make(self, structure: Structure) -> TokenMask:
        """Return the masks of an answer; takes up to some ten milliseconds, so not for an event loop.

        Raises:
            InputError: the structure cannot be kept.
        """
        return TokenMask(self._matcher(structure).deep_copy(), self._vocabulary, self)

    def wait_for_work(self, mask: TokenMask) -> None:
        """Let a mask be computed with the next work; of the thread that chooses tokens."""
        self._waiting.append(mask)

    def compute(self) -> None:
        """Begin to compute the masks that wait; of the thread that chooses tokens, when those of a step are chosen."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            work = self._pool.submit(_compute_all, waiting)
            for mask in waiting:
                mask.work = work

    def _compile(self, structure: Structure) -> Any:
        from llguidance import LLMatcher

        with self._reading:
            if self._known is None:
                self._known = self._read_tokenizer()
        matcher = LLMatcher(self._known, grammar_of(structure), log_level=0)
        if problem := matcher.get_error():
            raise InputError(f"{structure.kind}: cannot be kept: {problem.splitlines()[0]}")
        return matcher

    def close(self) -> None:
        """Stop the thread."""
        self._pool.shutdown(wait=False)

    def _read_tokenizer(self) -> Any:
        from llguidance.hf import from_tokenizer

        return from_tokenizer(self._tokenizer, n_vocab=self._vocabulary, eos_token=sorted(self._end_ids))


def _compute_all(masks: list[TokenMask]) -> None:
    for mask in masks:
        mask.compute()
