"""Metrics of the ingress, on Ray's Prometheus endpoint."""

from collections.abc import Mapping

from llama_platform.breaker import STATES, BreakerState
from serve_apps.serve_metrics import counter, gauge, histogram


class IngressMetrics:
    """Figures as clients see them; an Observer of the access log."""

    def __init__(self) -> None:
        """Register the metrics."""
        self._duration = histogram("llama_request_duration_seconds")
        self._outcomes = counter("llama_requests_total")
        self._screened = counter("llama_safety_actions_total")
        self._breakers = gauge("llama_breaker_state")
        self._first_token = histogram("llama_time_to_first_token_seconds")
        self._between_tokens = histogram("llama_inter_token_seconds")

    def request(self, route: str, code: str, seconds: float) -> None:
        """Count a request."""
        self._duration.observe(seconds, tags={"path": route})
        self._outcomes.inc(tags={"path": route, "outcome": code})

    def screened(self, place: str, action: str) -> None:
        """Count what a rule did."""
        self._screened.inc(tags={"place": place, "action": action})

    def breakers(self, states: Mapping[str, BreakerState]) -> None:
        """Show the states of the circuit breakers; Ray forgets a gauge that is not set again within seconds."""
        for name, state in states.items():
            self._breakers.set(STATES.index(state), tags={"name": name})

    def first_token(self, seconds: float) -> None:
        """Observe a time to first token."""
        self._first_token.observe(seconds)

    def between_tokens(self, seconds: float) -> None:
        """Observe a time between tokens."""
        self._between_tokens.observe(seconds)
