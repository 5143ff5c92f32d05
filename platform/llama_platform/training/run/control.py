"""RunControl: what the workers of a run have measured, for the driver, and what the driver asks of them."""

from typing import Any

from llama_platform.errors import PlatformError
from llama_platform.training.run.metrics import StepMetrics


class RunControl:
    """A Ray actor that lives as long as the driver."""

    def __init__(self) -> None:
        """Begin without messages."""
        self._records: list[StepMetrics] = []
        self._stop = False
        self._hopeless: PlatformError | None = None

    def post(self, records: list[StepMetrics]) -> None:
        """Add records."""
        self._records += records

    def read_from(self, start: int) -> list[StepMetrics]:
        """Return the records from number `start` on."""
        return self._records[start:]

    def request_stop(self) -> None:
        """Ask the workers to commit a checkpoint after the present step and end."""
        self._stop = True

    def give_up(self, error: PlatformError) -> None:
        """Note an error that starting the workers again would not mend; the first one counts."""
        self._hopeless = self._hopeless or error

    def given_up(self) -> PlatformError | None:
        """Return the error for which the run has been given up."""
        return self._hopeless

    def stop_requested(self) -> bool:
        """Return whether the driver wants the workers to end."""
        return self._stop


class StopRequests:
    """Requests to stop, as the first worker sees them: it asks now and then, and never waits for the answer."""

    def __init__(self, control: Any) -> None:
        """Ask the RunControl with this handle."""
        self._control = control
        self._answer: Any = None

    def pending(self) -> bool:
        """Return the last answer that has come, and ask again."""
        import ray

        if self._answer is None:
            self._answer = self._control.stop_requested.remote()
        if not ray.wait([self._answer], timeout=0)[0]:
            return False
        stop, self._answer = bool(ray.get(self._answer)), None
        return stop
