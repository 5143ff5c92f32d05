"""Chats that are screened before a model reads them, by serving and by batches alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from llama_platform.config import Config
from llama_platform.models.prompt import Message, frames, neutralize
from llama_platform.safety.rules import ScreenRule
from llama_platform.safety.stream_filter import Screened, screen

TurnPolicy = Literal["neutralize", "flag", "allow"]
TURNS = "turns"
"""Stands for a rule's name where text imitates the frame of a turn."""


class SafetyConfig(Config):
    """What must not be asked, found or answered."""

    rules: Path | None = None
    """A YAML file on the nodes that read it; its form is that of `llama_platform.safety.rules`."""
    turns: TurnPolicy = "neutralize"
    """What happens with text of users that imitates the frame of a turn, such as `### Assistant:`."""


@dataclass(frozen=True, slots=True)
class ScreenedChat:
    """What rules made of a chat."""

    messages: tuple[Message, ...]
    results: tuple[Screened, ...]
    """One for each turn."""

    @property
    def blocked_by(self) -> str | None:
        """Name of the rule that blocks it; None where it may be answered."""
        return next((result.blocked_by for result in self.results if result.blocked_by), None)


def screen_messages(messages: Sequence[Message], rules: Sequence[ScreenRule], turns: TurnPolicy) -> ScreenedChat:
    """Return a chat as the model may read it.

    Args:
        messages: the turns.
        rules: those for what is asked.
        turns: what happens with text that imitates the frame of a turn, but in answers.
    """
    kept, results = [], []
    for message in messages:
        result = screen(message.content, rules)
        if turns != "allow" and message.role != "assistant" and frames(result.text):
            if turns == "neutralize":
                result = replace(result, text=neutralize(result.text), redacted=(*result.redacted, TURNS))
            else:
                result = replace(result, flagged=(*result.flagged, TURNS))
        kept.append(replace(message, content=result.text))
        results.append(result)
    return ScreenedChat(tuple(kept), tuple(results))
