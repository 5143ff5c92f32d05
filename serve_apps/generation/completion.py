"""Completions: answers as they come together from their events, and the form of their texts."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from llama_platform.inference.protocol import FinishEvent, IndexedEvent, TokenEvent


class Completion:
    """One answer as it comes together."""

    def __init__(self) -> None:
        """Begin without events."""
        self._texts: list[str] = []
        self.tokens: list[TokenEvent] = []
        self.finish: FinishEvent | None = None

    def add(self, event: TokenEvent | FinishEvent) -> None:
        """Add an event."""
        if isinstance(event, FinishEvent):
            self.finish = event
        else:
            self._texts.append(event.text)
            self.tokens.append(event)

    @property
    def text(self) -> str:
        """Text so far."""
        return "".join(self._texts)

    @property
    def ended(self) -> FinishEvent:
        """Last event; only of an answer that has ended."""
        assert self.finish is not None
        return self.finish


async def gather(events: AsyncGenerator[list[IndexedEvent], None], count: int) -> list[Completion]:
    """Return the whole completions of `count` requests out of their events."""
    completions = [Completion() for _ in range(count)]
    async with aclosing(events):
        async for batch in events:
            for number, event in batch:
                completions[number].add(event)
    return completions


class TextTrimmer:
    """Strips the white space around a text that comes in pieces, so that a stream is equal to the whole answer."""

    def __init__(self, strip: Callable[[str], str] = str.strip) -> None:
        """Begin before the first character; `strip` is what the prompts' style does to a whole answer."""
        self._begun, self._strip = False, strip
        self._held = ""

    def feed(self, piece: str) -> str:
        """Return what of the text so far is now known to stand before its end."""
        text = self._held + piece
        if not self._begun:
            if not text.strip():
                self._held = text
                return ""
            text = self._strip(text + "|")[:-1]  # at the beginning only: the text goes on
            self._begun = True
        sent = text.rstrip()
        self._held = text[len(sent) :]
        return sent
