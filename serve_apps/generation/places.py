"""Places: how many answers of one ingress may be on their way to the engines.

An engine refuses what it has no place for, but at the end of the way: the request has been sent to a replica that is
busy by then. What its engines cannot take any more is refused here, before anything is counted, sent or waited for.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llama_platform.errors import OverloadedError


class Places:
    """All state lives in one event loop."""

    def __init__(self, replicas: Callable[[], int], running: int, waiting: int) -> None:
        """Begin with all places free.

        Args:
            replicas: returns how many replicas are ready; with none, requests wait for one in Serve's queue.
            running: answers that an engine generates at the same time.
            waiting: answers that may wait for that in each engine.
        """
        self._replicas, self._running, self._waiting = replicas, running, waiting
        self._held = Counter[str]()

    @contextmanager
    def taken(self, tenant: str, answers: int) -> Iterator[None]:
        """Take places for the answers of a request while the context lasts.

        Args:
            tenant: whose request it is, which has half of the places to wait at most; the empty text for nobody's.
            answers: number of them.

        Raises:
            OverloadedError: there are not so many.
        """
        if replicas := self._replicas():
            everybody = replicas * (self._running + self._waiting)
            tenants = replicas * (self._running + max(1, self._waiting // 2))
            if (held := self._held.total()) + answers > everybody:
                raise OverloadedError(f"{held} answers are on their way already; try again in a moment")
            if tenant and (held := self._held[tenant]) + answers > tenants:
                raise OverloadedError(f"{held} answers of this tenant are on their way already; try again in a moment")
        self._held[tenant] += answers
        try:
            yield
        finally:
            self._held[tenant] -= answers
            if not self._held[tenant]:
                del self._held[tenant]
