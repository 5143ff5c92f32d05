"""Autoscaling: how many replicas the load of an LLM needs.

Ray ships only this module to Serve's controller, so it imports the standard library alone.
"""

import math
from typing import Any


class TokenLoadPolicy:
    """A custom policy of Ray Serve: requests differ a hundredfold in work, so tokens are counted and not requests."""

    def __init__(self, tokens_per_replica: float, queue_depth: float, response_s: float) -> None:
        """Set the thresholds.

        Args:
            tokens_per_replica: tokens in flight that one replica should have on its hands.
            queue_depth: requests that wait per replica above which one more is started.
            response_s: seconds that requests take, or wait for their first step, above which one more is started while
                there is a queue.
        """
        self._tokens, self._depth, self._response_s = tokens_per_replica, queue_depth, response_s

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """Return how many replicas there should be; delays and bounds are Serve's business."""
        metrics = context.aggregated_metrics or {}

        def values(name: str) -> list[float]:
            return list((metrics.get(name) or {}).values())

        current = max(1, context.current_num_replicas)
        tokens = sum(values("tokens_in_flight"))
        queued = float(context.total_queued_requests or 0)
        waiting = sum(values("waiting")) + queued
        if not tokens and not waiting and not context.total_num_requests:
            return 0, {}
        wanted = max(1, math.ceil(tokens / self._tokens))
        slow = max([*values("response_s"), *values("queue_wait_s")], default=0.0) > self._response_s
        if waiting / current > self._depth or (waiting and slow):
            wanted = max(wanted, current + 1)
        return wanted, {}
