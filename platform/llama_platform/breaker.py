"""Breaker: stops asking something that keeps failing, and tries it again after a pause.

Closed, everything is let through. After some failures in a row it opens: whoever asks is refused at once. After the
pause one request is let through as a probe; its success closes the breaker, its failure opens it again. The states
are purgatory's; that there is one probe at a time is ours.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from purgatory.domain.model import Context, OpenedState

from llama_platform.errors import UnavailableError

BreakerState = Literal["closed", "opened", "half-opened"]
STATES: tuple[BreakerState, ...] = ("closed", "half-opened", "opened")


class OpenBreakerError(UnavailableError):
    """What was asked has kept failing; it is not asked until a pause has passed."""


class Breaker:
    """The breaker before one thing that is asked; of one event loop."""

    def __init__(
        self,
        name: str,
        failures: int = 5,
        pause_s: float = 5.0,
        counts: Callable[[BaseException], bool] = lambda error: True,
    ) -> None:
        """Begin closed.

        Args:
            name: what is asked, for messages.
            failures: failures in a row after which it opens.
            pause_s: seconds that it stays open before a probe.
            counts: returns whether an error counts as a failure; with others, what was asked has answered.
        """
        others = (BaseException, lambda error: not counts(error))
        self.name = name
        self._context = Context(name, failures, pause_s, exclude=[others])
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """Return whether it lets requests through."""
        return self._context.state

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Let one request through, and note whether it fails.

        Raises:
            OpenBreakerError: the breaker is open, or a probe is under way.
        """
        if self._probing:
            raise self._refusal()
        try:
            self._context.handle_new_request()
        except OpenedState:
            raise self._refusal() from None
        probe = self._probing = self._context.state == "half-opened"
        try:
            yield
        except Exception as error:
            self._context.handle_exception(error)
            raise
        except BaseException:  # cancelled: nothing is known of it, and a probe is made again
            raise
        else:
            self._context.handle_end_request()
        finally:
            self._context.messages.clear()
            if probe:
                self._probing = False

    def _refusal(self) -> OpenBreakerError:
        return OpenBreakerError(f"the {self._context.name} keeps failing and is not asked for the moment")
