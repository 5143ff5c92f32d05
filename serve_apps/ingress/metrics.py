"""Metrics of the ingress, on Ray's Prometheus endpoint."""

from collections.abc import Mapping

from ray.serve import metrics

from llama_platform.breaker import STATES, BreakerState
from serve_apps.llama.metrics import SECONDS


class IngressMetrics:
    """Figures as clients see them; an Observer of the access log."""

    def __init__(self) -> None:
        """Register the metrics."""
        self._duration = metrics.Histogram(
            "llama_request_duration_seconds",
            "Duration of whole requests, in seconds.",
            boundaries=SECONDS,
            tag_keys=("path",),
        )
        self._outcomes = metrics.Counter(
            "llama_requests_total",
            "Requests by route and outcome; the outcome of an error is its code.",
            tag_keys=("path", "outcome"),
        )
        self._screened = metrics.Counter(
            "llama_safety_actions_total",
            "What rules of safety did: block, redact or flag, at input, sources or output.",
            tag_keys=("place", "action"),
        )
        self._breakers = metrics.Gauge(
            "llama_breaker_state",
            "State of the circuit breaker before what the ingress asks: 0 closed, 1 half-open, 2 open.",
            tag_keys=("name",),
        )
        self._known: dict[str, BreakerState] = {}
        self._first_token = metrics.Histogram(
            "llama_time_to_first_token_seconds",
            "Seconds from a request's arrival to its first token.",
            boundaries=SECONDS,
        )
        self._between_tokens = metrics.Histogram(
            "llama_inter_token_seconds", "Seconds between the tokens of an answer.", boundaries=SECONDS
        )

    def request(self, route: str, code: str, seconds: float) -> None:
        """Count a request."""
        self._duration.observe(seconds, tags={"path": route})
        self._outcomes.inc(tags={"path": route, "outcome": code})

    def screened(self, place: str, action: str) -> None:
        """Count what a rule did."""
        self._screened.inc(tags={"place": place, "action": action})

    def breakers(self, states: Mapping[str, BreakerState]) -> None:
        """Set the states of the circuit breakers that have changed."""
        for name, state in states.items():
            if self._known.get(name) != state:
                self._known[name] = state
                self._breakers.set(STATES.index(state), tags={"name": name})

    def first_token(self, seconds: float) -> None:
        """Observe a time to first token."""
        self._first_token.observe(seconds)

    def between_tokens(self, seconds: float) -> None:
        """Observe a time between tokens."""
        self._between_tokens.observe(seconds)
