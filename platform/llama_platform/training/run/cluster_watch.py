"""ClusterWatch: tells that the Ray cluster has gone, before Ray ends the process without a word of ours."""

import logging
import time

from llama_platform.errors import TrainingError
from llama_platform.ports import is_listening

log = logging.getLogger(__name__)
LOOK_S, GONE_S = 2.0, 20.0
"""How often the cluster is looked for, and for how long it may be away, in seconds."""


class ClusterWatch:
    """Looks whether the cluster's head still answers."""

    def __init__(self, run_id: str, address: str, look_s: float = LOOK_S, gone_s: float = GONE_S) -> None:
        """Watch a cluster that answers now.

        Args:
            run_id: named in the error.
            address: `host:port` of the head's control service.
            look_s: seconds between two looks.
            gone_s: seconds without an answer after which the cluster counts as gone.
        """
        self._run_id, self._address, self._look_s, self._gone_s = run_id, address, look_s, gone_s
        self._looked_at = self._seen_at = time.monotonic()

    def check(self) -> None:
        """Look, if the last look was long enough ago.

        Raises:
            TrainingError: the cluster is gone.
        """
        if time.monotonic() - self._looked_at < self._look_s:
            return
        self._looked_at = time.monotonic()
        if is_listening(self._address, self._look_s):
            self._seen_at = time.monotonic()
        elif time.monotonic() - self._seen_at > self._gone_s:
            advice = resubmission_advice(self._run_id)
            text = f"run {self._run_id}: the Ray cluster at {self._address} is gone; {advice}"
            log.error(text)  # at once: leaving the cluster may take what time there is
            raise TrainingError(text)


def resubmission_advice(run_id: str) -> str:
    """Return what a user can do about a run that the cluster has failed."""
    return f"what is committed stays: submit the job again with --set training.run_id={run_id}"
