"""Metrics of the ingress, on Ray's Prometheus endpoint."""

from ray.serve import metrics

from serve_apps.llama.metrics import SECONDS


class IngressMetrics:
    """What clients see; an Observer of the request log."""

    def __init__(self) -> None:
        """Register the metrics."""
        self._duration = metrics.Histogram(
            "llama_request_duration_seconds", "Of whole requests.", boundaries=SECONDS, tag_keys=("path",)
        )
        self._outcomes = metrics.Counter("llama_requests_total", "By route and outcome.", tag_keys=("path", "outcome"))
        self._first_token = metrics.Histogram(
            "llama_time_to_first_token_seconds", "Since the request came in.", boundaries=SECONDS
        )
        self._between_tokens = metrics.Histogram(
            "llama_inter_token_seconds", "Between the tokens of an answer.", boundaries=SECONDS
        )

    def request(self, route: str, code: str, seconds: float) -> None:
        """Count a request."""
        self._duration.observe(seconds, tags={"path": route})
        self._outcomes.inc(tags={"path": route, "outcome": code})

    def first_token(self, seconds: float) -> None:
        """Observe a time to first token."""
        self._first_token.observe(seconds)

    def between_tokens(self, seconds: float) -> None:
        """Observe a time between tokens."""
        self._between_tokens.observe(seconds)
