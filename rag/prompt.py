"""The prompt of a question over sources: numbered, and fitted into the context by tokens."""

from collections.abc import Callable, Sequence

from llama_platform.models.prompt import Message
from rag.retriever import Hit

INSTRUCTION = "Answer from the sources and cite them by number."


def build_messages(question: str, hits: Sequence[Hit]) -> list[Message]:
    """Return the chat that asks `question` over `hits`, which are numbered from 1."""
    sources = "\n\n".join(f"[{number}] {hit.chunk.place()}\n{hit.chunk.text}" for number, hit in enumerate(hits, 1))
    return [Message("user", f"{INSTRUCTION}\n\n{sources}\n\nQuestion: {question}")]


def fit_sources(
    question: str, hits: Sequence[Hit], max_tokens: int, count: Callable[[list[Message]], int]
) -> list[Hit]:
    """Return the hits, best first, with which the prompt stays within `max_tokens`.

    A hit that is too long is passed over; a shorter one behind it may still fit.

    Args:
        question: what is asked.
        hits: best first.
        max_tokens: bound on the whole prompt.
        count: returns the tokens of a chat as the model will read it.
    """
    fitting: list[Hit] = []
    for hit in hits:
        if count(build_messages(question, [*fitting, hit])) <= max_tokens:
            fitting.append(hit)
    return fitting
