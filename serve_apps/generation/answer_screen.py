"""AnswerScreen: trims and screens the text of one answer as it is generated."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from llama_platform.inference.protocol import FinishEvent, GenerationRequest, Timings, TokenEvent, Usage
from llama_platform.safety.rules import ScreenRule
from llama_platform.safety.stream_filter import StreamFilter
from serve_apps.generation.completion import TextTrimmer


class AnswerScreen:
    """Of one answer."""

    def __init__(
        self, request: GenerationRequest, rules: Sequence[ScreenRule], strip: Callable[[str], str] | None
    ) -> None:
        """Begin before the first event.

        Args:
            request: what is answered.
            rules: what the answer must not hold.
            strip: what the prompts' style does to a whole answer; None where its white space counts.
        """
        self._prompt_tokens, self._begun = len(request.prompt_ids), time.perf_counter()
        self._trimmer = TextTrimmer(strip) if strip is not None else None
        self.filter = StreamFilter(rules)
        self.tokens = 0
        """Tokens of the answer so far."""
        self._first_token_s: float | None = None

    def events(self, event: TokenEvent | FinishEvent) -> list[TokenEvent | FinishEvent]:
        """Return what is sent on for an event; the last one is a FinishEvent where the answer ends with it."""
        if isinstance(event, FinishEvent):
            rest = self.filter.finish()
            if self.filter.blocked_by is not None:
                event = replace(event, reason="content_filter")
            return [TokenEvent(rest, ()), event] if rest else [event]
        self.tokens += len(event.token_ids)
        if self._first_token_s is None:
            self._first_token_s = time.perf_counter() - self._begun
        text = event.text if self._trimmer is None else self._trimmer.feed(event.text)
        sent = replace(event, text=self.filter.feed(text))
        if self.filter.blocked_by is None:
            return [sent]
        timings = Timings(0.0, self._first_token_s, time.perf_counter() - self._begun)
        return [sent, FinishEvent("content_filter", Usage(self._prompt_tokens, self.tokens), timings)]
