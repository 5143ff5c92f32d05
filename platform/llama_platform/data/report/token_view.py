"""Token view: a chat as the model sees it, every token marked as trained or context."""

from collections.abc import Sequence
from dataclasses import dataclass

from llama_platform.models.prompt import Message, PromptTemplate

REPLACEMENT = "\ufffd"
"""How bytes decode that are no whole character."""
LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8, and so its tokens, at most."""


@dataclass(frozen=True, slots=True)
class ViewedToken:
    """One token, or several that are one character only together, as bytes of it."""

    text: str
    trained: bool
    """Whether it counts in the loss."""
    count: int = 1
    """Number of tokens."""


def view_tokens(messages: Sequence[Message], template: PromptTemplate) -> list[ViewedToken]:
    """Return a chat's tokens; special tokens by their name."""
    encoded = template.encode_chat(messages)
    tokenizer, special = template.tokenizer, set(template.tokenizer.all_special_ids)
    pieces = tokenizer.convert_ids_to_tokens(encoded.input_ids)
    viewed: list[ViewedToken] = []
    start = 0
    for place, (token, trained) in enumerate(zip(encoded.input_ids, encoded.trained, strict=True)):
        # Decoding drops the space before a lone token; SentencePiece and byte-level BPE each mark it.
        space = " " if pieces[start].startswith(("▁", "Ġ")) else ""
        text = space + tokenizer.decode(encoded.input_ids[start : place + 1]).removeprefix(space)
        following = encoded.input_ids[place + 1 : place + 2]
        ends = not following or following[0] in special or encoded.trained[place + 1] != trained
        if token in special:
            text = pieces[place]
        elif text.endswith(REPLACEMENT) and not ends and place - start < LONGEST_CHARACTER:
            continue
        viewed.append(ViewedToken(text, trained, place + 1 - start))
        start = place + 1
    return viewed
