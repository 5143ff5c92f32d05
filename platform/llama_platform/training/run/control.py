"""Board: where the workers of a run post what they measured, and the driver what it wants of them."""

from typing import Any


class RunControl:
    """A Ray actor that lives as long as the driver."""

    def __init__(self) -> None:
        """Begin without messages."""
        self._records: list[dict[str, Any]] = []
        self._stop = False

    def post(self, records: list[dict[str, Any]]) -> None:
        """Add records."""
        self._records += records

    def read_from(self, start: int) -> list[dict[str, Any]]:
        """Return the records from number `start` on."""
        return self._records[start:]

    def request_stop(self) -> None:
        """Ask the workers to commit a checkpoint after the present step and end."""
        self._stop = True

    def stop_requested(self) -> bool:
        """Return whether the driver wants the workers to end."""
        return self._stop


class StopRequests:
    """The first worker's view of the board: it asks now and then, and never waits for the answer."""

    def __init__(self, board: Any) -> None:
        """Ask the RunControl with this handle."""
        self._board = board
        self._answer: Any = None

    def pending(self) -> bool:
        """Return the last answer that has come, and ask again."""
        import ray

        if self._answer is None:
            self._answer = self._board.stop_requested.remote()
        if not ray.wait([self._answer], timeout=0)[0]:
            return False
        stop, self._answer = bool(ray.get(self._answer)), None
        return stop
