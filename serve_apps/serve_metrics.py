"""Metrics of the catalogue, made with Serve's own tags for application, deployment and replica."""

from ray.serve import metrics

from llama_platform.metrics import METRICS, SECONDS


def counter(name: str) -> metrics.Counter:
    """Return the counter of a name in this replica."""
    found = METRICS[name]
    return metrics.Counter(name, found.text, tag_keys=found.labels)


def gauge(name: str) -> metrics.Gauge:
    """Return the gauge of a name in this replica."""
    found = METRICS[name]
    return metrics.Gauge(name, found.text, tag_keys=found.labels)


def histogram(name: str) -> metrics.Histogram:
    """Return the histogram of durations of a name in this replica."""
    found = METRICS[name]
    return metrics.Histogram(name, found.text, boundaries=list(SECONDS), tag_keys=found.labels)
