"""WaitingNotes: tells at a terminal what a long stage waits for."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.markup import escape

SILENCE_S = 5.0
"""After so many seconds without a line, it is said what is waited for."""
SAME_S = 20.0
"""After so many seconds the same is said again."""


class WaitingNotes:
    """Says what is waited for when nothing else was said for some seconds."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """Say it through `write`."""
        self._write = write
        self._text, self._heard_at = "", time.monotonic()

    def now(self, text: str) -> None:
        """Change what is waited for."""
        self._text = text

    def heard(self) -> None:
        """Start counting anew: something was said."""
        self._heard_at = time.monotonic()

    @contextmanager
    def during(self, text: str) -> Iterator[None]:
        """Say `text` every few silent seconds of the context."""
        self.now(text)
        self.heard()
        ended = threading.Event()

        def watch() -> None:
            said = ""
            while not ended.wait(0.5):
                silence = time.monotonic() - self._heard_at
                if silence >= (SILENCE_S if said != self._text else SAME_S):
                    said = self._text
                    self._write(f"  [dim]… {escape(said)}[/dim]")
                    self.heard()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
