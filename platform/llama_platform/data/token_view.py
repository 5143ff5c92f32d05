"""Token view: a chat as the model sees it, every token marked as trained or context."""

from collections.abc import Sequence
from dataclasses import dataclass

from llama_platform.models.prompt import Message, PromptTemplate


@dataclass(frozen=True, slots=True)
class ViewedToken:
    """One token."""

    text: str
    trained: bool
    """Whether it counts in the loss."""


def view_tokens(messages: Sequence[Message], template: PromptTemplate) -> list[ViewedToken]:
    """Return a chat's tokens; special tokens by their name, bytes of a split character as U+FFFD."""
    encoded = template.encode_chat(messages)
    special = set(template.tokenizer.all_special_ids)
    texts = []
    for token, piece in zip(
        encoded.input_ids, template.tokenizer.convert_ids_to_tokens(encoded.input_ids), strict=True
    ):
        # Decoding drops the space before a lone token; SentencePiece and byte-level BPE each mark it.
        space = " " if piece.startswith(("▁", "Ġ")) else ""
        texts.append(piece if token in special else space + template.tokenizer.decode([token]).removeprefix(space))
    return [ViewedToken(text, trained) for text, trained in zip(texts, encoded.trained, strict=True)]
