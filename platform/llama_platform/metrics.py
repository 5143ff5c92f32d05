"""The catalogue of metrics: what the platform shows at Ray's Prometheus endpoint.

Ray puts `ray_` before each name. Dashboards, alerts and the documentation are tested against this catalogue.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Bounds of the buckets of durations, in seconds."""
SERVER_ERRORS = (
    "internal", "unavailable", "overloaded", "deadline", "engine", "replica_lost", "storage", "integrity",
)  # fmt: skip
"""Outcomes of requests that are the server's failure, for the service levels."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    """Without Ray's prefix."""
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    """What it says; one sentence with its unit."""
    labels: tuple[str, ...] = ()
    """Beside those of Ray."""

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its time series in Prometheus."""
        name = f"ray_{self.name}"
        return tuple(f"{name}_{part}" for part in ("bucket", "sum", "count")) if self.kind == "histogram" else (name,)


_METRICS = (
    Metric(
        "llama_requests_total", "counter",
        "Requests by route and outcome; the outcome of an error is its code.", ("path", "outcome"),
    ),
    Metric("llama_request_duration_seconds", "histogram", "Duration of whole requests, in seconds.", ("path",)),
    Metric("llama_time_to_first_token_seconds", "histogram", "Seconds from a request's arrival to its first token."),
    Metric("llama_inter_token_seconds", "histogram", "Seconds between the tokens of an answer."),
    Metric(
        "llama_safety_actions_total", "counter",
        "What rules of safety did: block, redact or flag, at input, sources or output.", ("place", "action"),
    ),
    Metric(
        "llama_breaker_state", "gauge",
        "State of the circuit breaker before what the ingress asks: 0 closed, 1 half-open, 2 open.", ("name",),
    ),
    Metric(
        "llama_store_readable", "gauge",
        "1 while the aliases of a kind can be read in the store, else 0.", ("kind",),
    ),
    Metric("llama_queue_wait_seconds", "histogram", "Seconds from a request's arrival to its first step."),
    Metric("llama_prompt_tokens_total", "counter", "Tokens of prompts."),
    Metric("llama_cached_prompt_tokens_total", "counter", "Tokens of prompts that the prefix cache held."),
    Metric("llama_completion_tokens_total", "counter", "Tokens generated."),
    Metric("llama_running_requests", "gauge", "Requests that generate."),
    Metric("llama_waiting_requests", "gauge", "Requests that wait for a slot of the engine."),
    Metric("llama_failed_steps", "gauge", "Steps of the engine that ended in an exception."),
    Metric(
        "llama_preempted_answers", "gauge",
        "Times that an answer gave way to others, for want of memory or for fairness.",
    ),
    Metric("llama_loaded_adapters", "gauge", "Adapters that are loaded."),
    Metric("llama_adapter_loads_total", "counter", "Adapters that were loaded, by outcome.", ("outcome",)),
    Metric("llama_training_step", "gauge", "Optimizer steps done.", ("run",)),
    Metric(
        "llama_training_loss", "gauge",
        "Mean negative log-likelihood of the last step's trained tokens, in nats.", ("run",),
    ),
    Metric("llama_training_tokens_per_s", "gauge", "Tokens read per second, padding not counted.", ("run",)),
    Metric("llama_training_learning_rate", "gauge", "Learning rate of the last step.", ("run",)),
    Metric(
        "llama_training_eval_loss", "gauge",
        "Mean negative log-likelihood of the held-out answers, in nats.", ("run",),
    ),
)  # fmt: skip
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _METRICS}
"""Every metric by its name."""
