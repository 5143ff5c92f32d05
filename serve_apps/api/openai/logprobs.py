"""Log-probabilities in the forms of OpenAI's two routes."""

from collections.abc import Sequence
from typing import Any

from llama_platform.inference.protocol import TokenLogprob


class TokenTexts:
    """Texts and bytes of single tokens."""

    def __init__(self, tokenizer: Any) -> None:
        """Read them from a transformers tokenizer."""
        self._tokenizer = tokenizer

    def text(self, token_id: int) -> str:
        """Return the text of a token; a token that is part of a character only has a replacement character."""
        piece = str(self._tokenizer.convert_ids_to_tokens(token_id))
        if piece.startswith("\u2581"):  # SentencePiece's sign for a space, which decoding a single token leaves out
            return piece.replace("\u2581", " ")
        return str(self._tokenizer.decode([token_id]))

    def special(self, token_id: int) -> bool:
        """Return whether a token has no text."""
        return token_id in self._tokenizer.all_special_ids

    def bytes(self, token_id: int) -> list[int]:
        """Return the UTF-8 bytes of a token."""
        piece = str(self._tokenizer.convert_ids_to_tokens(token_id))
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):  # SentencePiece's byte fallback
            return [int(piece[3:5], 16)]
        return list(self.text(token_id).encode())


def chat_logprobs(found: Sequence[TokenLogprob], texts: TokenTexts) -> dict[str, Any]:
    """Return the `logprobs` of a choice of `/v1/chat/completions`."""

    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        return {"token": texts.text(token_id), "logprob": logprob, "bytes": texts.bytes(token_id)}

    content = [
        {**entry(one.token_id, one.logprob), "top_logprobs": [entry(*other) for other in one.top]} for one in found
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(
    found: Sequence[TokenLogprob], texts: TokenTexts, start: int = 0, unforetold: int | None = None
) -> dict[str, Any]:
    """Return the `logprobs` of a choice of `/v1/completions`.

    Args:
        found: of consecutive tokens.
        texts: of the tokenizer.
        start: characters of the choice's text before them.
        unforetold: the prompt's first token, which stands before all others without a log-probability.
    """
    first = [] if unforetold is None else [texts.text(unforetold)]
    tokens = first + [texts.text(one.token_id) for one in found]
    offsets, position = [], start
    for place, token in enumerate(tokens):
        offsets.append(position)
        special = place == 0 and unforetold is not None and texts.special(unforetold)
        position += 0 if special else len(token)  # BOS is no part of the text
    best = [{texts.text(token): logprob for token, logprob in one.top} for one in found]
    for one, others in zip(found, best, strict=True):
        others.setdefault(texts.text(one.token_id), one.logprob)
    return {
        "tokens": tokens,
        "token_logprobs": [None] * len(first) + [one.logprob for one in found],
        "top_logprobs": [None] * len(first) + best,
        "text_offset": offsets,
    }
