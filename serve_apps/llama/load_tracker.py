"""LoadTracker: the load of a replica in tokens and seconds, as autoscaling and health see it."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llama_platform.inference.protocol import FinishEvent, GenerationRequest, TokenEvent

WINDOW_S = 30.0


@dataclass(slots=True)
class InFlight:
    """One request on its way."""

    left: int
    """Tokens of prompt and answer that may still have to be computed."""
    prompt_tokens: int
    first_at: float | None = None

    def note(self, event: TokenEvent | FinishEvent, now: float) -> None:
        """Count what has been generated."""
        if isinstance(event, FinishEvent):
            self.left = 0
            return
        if self.first_at is None:
            self.first_at = now
            self.left -= self.prompt_tokens
        self.left = max(0, self.left - len(event.token_ids))


class LoadTracker:
    """Load of one replica; all methods are called in its event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without requests."""
        self._clock = clock
        self._in_flight: dict[int, tuple[float, InFlight]] = {}
        self._count = 0
        self._waits: deque[tuple[float, float]] = deque()
        self._answers: deque[tuple[float, float]] = deque()

    @contextmanager
    def request(self, request: GenerationRequest) -> Iterator[InFlight]:
        """Count a request while it is on its way."""
        prompt, new = len(request.prompt_ids), request.sampling.max_new_tokens
        state = InFlight(prompt + new, prompt)
        self._count += 1
        number = self._count
        self._in_flight[number] = self._clock(), state
        try:
            yield state
        finally:
            start, _ = self._in_flight.pop(number)
            self._answers.append((self._clock(), self._clock() - start))

    def note_wait(self, queue_s: float) -> None:
        """Record how long a request waited for its first step, in seconds."""
        self._waits.append((self._clock(), queue_s))

    @property
    def requests(self) -> int:
        """Return the requests on their way."""
        return len(self._in_flight)

    def stats(self, waiting: int) -> dict[str, float]:
        """Return plain numbers for the autoscaling policy.

        Args:
            waiting: requests that wait for a slot of the engine.
        """
        now = self._clock()
        for line in (self._waits, self._answers):
            while line and now - line[0][0] > WINDOW_S:
                line.popleft()
        # What still waits for its first token counts with the time that it has waited so far.
        unanswered = [now - start for start, state in self._in_flight.values() if state.first_at is None]
        times = [seconds for _, seconds in self._answers]
        return {
            "tokens_in_flight": float(sum(state.left for _, state in self._in_flight.values())),
            "waiting": float(waiting),
            "queue_wait_s": max([seconds for _, seconds in self._waits] + unanswered, default=0.0),
            "response_s": sum(times) / len(times) if times else 0.0,
        }
