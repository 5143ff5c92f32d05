"""Metrics of a replica, on Ray's Prometheus endpoint, with Serve's own tags for application, deployment and replica."""

from ray.serve import metrics

from llama_platform.inference.protocol import EngineStats, FinishEvent

SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]


class ReplicaMetrics:
    """What one engine does."""

    def __init__(self) -> None:
        """Register the metrics."""
        self._queue_wait = metrics.Histogram(
            "llama_queue_wait_seconds",
            "Seconds from a request's arrival to its first step.",
            boundaries=SECONDS,
        )
        self._prompt_tokens = metrics.Counter("llama_prompt_tokens_total", "Tokens of prompts.")
        self._cached_tokens = metrics.Counter(
            "llama_cached_prompt_tokens_total", "Tokens of prompts that the prefix cache held."
        )
        self._completion_tokens = metrics.Counter("llama_completion_tokens_total", "Tokens generated.")
        self._running = metrics.Gauge("llama_running_requests", "Requests that generate.")
        self._waiting = metrics.Gauge("llama_waiting_requests", "Requests that wait for a slot of the engine.")
        self._failed_steps = metrics.Gauge("llama_failed_steps", "Steps of the engine that ended in an exception.")
        self._preempted = metrics.Gauge(
            "llama_preempted_answers", "Times that an answer gave way to others, for want of memory or for fairness."
        )
        self._adapters = metrics.Gauge("llama_loaded_adapters", "Adapters that are loaded.")
        self.adapter_loads = metrics.Counter(
            "llama_adapter_loads_total", "Adapters that were loaded, by outcome.", tag_keys=("outcome",)
        )

    def finished(self, event: FinishEvent) -> None:
        """Count an answer."""
        self._queue_wait.observe(event.timings.queue_s)
        for counter, tokens in (
            (self._prompt_tokens, event.usage.prompt_tokens),
            (self._cached_tokens, event.usage.cached_tokens),
            (self._completion_tokens, event.usage.completion_tokens),
        ):
            if tokens:
                counter.inc(tokens)

    def load(self, stats: EngineStats) -> None:
        """Show the present load."""
        self._running.set(stats.running)
        self._waiting.set(stats.waiting)
        self._failed_steps.set(stats.failures)
        self._preempted.set(stats.preempted)
        self._adapters.set(len(stats.adapters))
