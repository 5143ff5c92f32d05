"""The prompt of a question over sources: numbered, and fitted into the context by tokens.

What was retrieved is data. It cannot end the turn it is shown in, nor pass for a source that was not found: whatever
looks like the frame is changed, character by character, so that spans stay true.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llama_platform.models.prompt import Message, PromptTemplate, neutralize
from rag.search.query import Hit

INSTRUCTION = "Answer from the sources and cite them by number."
MAX_TOKEN_CHARS = 20
"""No token has more, as a rule: of a longer text it is known that it does not fit, and nothing is counted."""
FRAME_TOKENS = 12
"""Of a turn, at most."""
_LABEL = re.compile(r"\[(\s*\d+\s*(?:,\s*\d+\s*)*)\]")
_QUESTION = re.compile(r"^(\s*Question):", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RagPrompt:
    """A prompt that fits, and the sources in it."""

    hits: tuple[Hit, ...]
    """Numbered from 1."""
    prompt_ids: tuple[int, ...]


def shown_text(text: str) -> str:
    """Return retrieved text as the model is shown it, of the same length."""
    return _QUESTION.sub(r"\1.", _LABEL.sub(r"(\1)", neutralize(text)))


def build_messages(question: str, hits: Sequence[Hit], history: Sequence[Message] = ()) -> list[Message]:
    """Return the chat that goes on from `history` and asks `question` over `hits`, which are numbered from 1."""
    sources = "\n\n".join(_source(number, hit) for number, hit in enumerate(hits, 1))
    return [*history, Message("user", f"{INSTRUCTION}\n\n{sources}\n\nQuestion: {question}")]


def fit_prompt(
    question: str, hits: Sequence[Hit], max_tokens: int, template: PromptTemplate, history: Sequence[Message] = ()
) -> RagPrompt:
    """Return the prompt with as many of the hits, best first, as fit.

    A hit that is too long is passed over; a shorter one behind it may still fit. Of a long history the oldest turns
    are left out, so that sources have two thirds of the room.

    Args:
        question: what is asked.
        hits: best first.
        max_tokens: bound on the whole prompt.
        template: renders it.
        history: turns before the question, the user's first, an optional system turn before them.
    """
    past = _newest(history, max_tokens // 3, template)
    ids = template.encode_prompt(build_messages(question, hits, past))
    if len(ids) <= max_tokens:  # as a rule
        return RagPrompt(tuple(hits), tuple(ids))
    used = len(template.encode_prompt(build_messages(question, [], past)))
    fitting: list[Hit] = []
    for hit in hits:
        cost = len(template.encode_text(f"\n\n{_source(len(fitting) + 1, hit)}")) - 1
        if used + cost <= max_tokens:
            fitting.append(hit)
            used += cost
    # Tokens of the parts are nearly, not always, those of the whole.
    while len(ids := template.encode_prompt(build_messages(question, fitting, past))) > max_tokens and fitting:
        fitting.pop()
    return RagPrompt(tuple(fitting), tuple(ids))


def _newest(history: Sequence[Message], max_tokens: int, template: PromptTemplate) -> list[Message]:
    """Return the system turn, if it fits, and the newest exchanges that fit beside it."""
    system = [turn for turn in history[:1] if turn.role == "system"]
    exchanges = [history[start : start + 2] for start in range(len(system), len(history), 2)]
    kept: list[Message] = []
    room = max_tokens - _tokens(system, max_tokens, template)
    if room < 0:
        system, room = [], max_tokens
    for exchange in reversed(exchanges):
        room -= _tokens(exchange, room, template)
        if room < 0:
            break
        kept[:0] = exchange
    return [*system, *kept]


def _tokens(turns: Sequence[Message], room: int, template: PromptTemplate) -> int:
    """Return about how many tokens turns have; of what is far too long, only that it is more than `room`."""
    text = "\n".join(turn.content for turn in turns)
    if len(text) > max(room, 0) * MAX_TOKEN_CHARS:
        return room + 1
    return len(template.encode_text(text)) + FRAME_TOKENS * len(turns) if turns else 0


def _source(number: int, hit: Hit) -> str:
    place = " ".join(shown_text(hit.chunk.place()).split())
    return f"[{number}] {place}\n{shown_text(hit.chunk.text)}"
