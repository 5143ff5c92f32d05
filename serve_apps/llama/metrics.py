"""Metrics of a replica, on Ray's Prometheus endpoint, with Serve's own tags for application, deployment and replica."""

from llama_platform.inference.protocol import EngineStats, FinishEvent
from serve_apps.serve_metrics import counter, gauge, histogram


class ReplicaMetrics:
    """What one engine does."""

    def __init__(self) -> None:
        """Register the metrics."""
        self._queue_wait = histogram("llama_queue_wait_seconds")
        self._prompt_tokens = counter("llama_prompt_tokens_total")
        self._cached_tokens = counter("llama_cached_prompt_tokens_total")
        self._completion_tokens = counter("llama_completion_tokens_total")
        self._running = gauge("llama_running_requests")
        self._waiting = gauge("llama_waiting_requests")
        self._failed_steps = gauge("llama_failed_steps")
        self._preempted = gauge("llama_preempted_answers")
        self._adapters = gauge("llama_loaded_adapters")
        self.adapter_loads = counter("llama_adapter_loads_total")

    def finished(self, event: FinishEvent) -> None:
        """Count an answer."""
        self._queue_wait.observe(event.timings.queue_s)
        for counted, tokens in (
            (self._prompt_tokens, event.usage.prompt_tokens),
            (self._cached_tokens, event.usage.cached_tokens),
            (self._completion_tokens, event.usage.completion_tokens),
        ):
            if tokens:
                counted.inc(tokens)

    def load(self, stats: EngineStats) -> None:
        """Show the present load."""
        self._running.set(stats.running)
        self._waiting.set(stats.waiting)
        self._failed_steps.set(stats.failures)
        self._preempted.set(stats.preempted)
        self._adapters.set(len(stats.adapters))
