"""Log-probabilities in the forms of OpenAI's two routes."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from llama_platform.inference.protocol import TokenLogprob

REPLACEMENT = "\ufffd"
"""How bytes decode that are no whole character."""
LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8, and so its tokens, at most."""


class TokenTexts:
    """Texts and bytes of single tokens; those of recent tokens are remembered."""

    def __init__(self, tokenizer: Any) -> None:
        """Read them from a transformers tokenizer."""
        self._tokenizer = tokenizer
        self.text = lru_cache(4096)(self._text)
        self.bytes = lru_cache(4096)(self._bytes)

    def special(self, token_id: int) -> bool:
        """Return whether a token has no text."""
        return token_id in self._tokenizer.all_special_ids

    def together(self, token_ids: Sequence[int]) -> str:
        """Return the text of consecutive tokens."""
        space = " " if str(self._tokenizer.convert_ids_to_tokens(token_ids[0])).startswith("\u2581") else ""
        return space + str(self._tokenizer.decode(list(token_ids))).removeprefix(space)

    def _text(self, token_id: int) -> str:
        """Return the text of a token; a token that is part of a character only has a replacement character."""
        piece = str(self._tokenizer.convert_ids_to_tokens(token_id))
        if piece.startswith("\u2581"):  # SentencePiece's sign for a space, which decoding a single token leaves out
            return piece.replace("\u2581", " ")
        return str(self._tokenizer.decode([token_id]))

    def _bytes(self, token_id: int) -> list[int]:
        """Return the UTF-8 bytes of a token."""
        piece = str(self._tokenizer.convert_ids_to_tokens(token_id))
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):  # SentencePiece's byte fallback
            return [int(piece[3:5], 16)]
        return list(self.text(token_id).encode())


class TextOffsets:
    """Places of tokens in a text, in characters; tokens that are one character only together have one place."""

    def __init__(self, texts: TokenTexts, start: int = 0) -> None:
        """Begin at character `start`."""
        self._texts, self._position = texts, start
        self._open: list[int] = []

    def next(self, token_id: int) -> int:
        """Return the place of the next token."""
        place = self._position
        if self._texts.special(token_id):  # as BOS, it is no part of the text
            return place
        self._open.append(token_id)
        text = self._texts.together(self._open)
        if not text.endswith(REPLACEMENT) or len(self._open) >= LONGEST_CHARACTER:
            self._position += len(text)
            self._open = []
        return place


def chat_logprobs(found: Sequence[TokenLogprob], texts: TokenTexts) -> dict[str, Any]:
    """Return the `logprobs` of a choice of `/v1/chat/completions`."""

    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        return {"token": texts.text(token_id), "logprob": logprob, "bytes": texts.bytes(token_id)}

    content = [
        {**entry(one.token_id, one.logprob), "top_logprobs": [entry(*other) for other in one.top]} for one in found
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(
    found: Sequence[TokenLogprob], texts: TokenTexts, offsets: TextOffsets, unscored: int | None = None
) -> dict[str, Any]:
    """Return the `logprobs` of a choice of `/v1/completions`.

    Args:
        found: log-probabilities of consecutive tokens.
        texts: texts of the tokenizer's tokens.
        offsets: tells places; goes on with the next tokens of a stream.
        unscored: the prompt's first token, which stands before all others without a log-probability.
    """
    ids = ([] if unscored is None else [unscored]) + [one.token_id for one in found]
    before: list[None] = [None] * (len(ids) - len(found))
    best = [{texts.text(token): logprob for token, logprob in one.top} for one in found]
    for one, others in zip(found, best, strict=True):
        others.setdefault(texts.text(one.token_id), one.logprob)
    return {
        "tokens": [texts.text(token) for token in ids],
        "token_logprobs": [*before, *(one.logprob for one in found)],
        "top_logprobs": [*before, *best],
        "text_offset": [offsets.next(token) for token in ids],
    }
