from types import SimpleNamespace

import pytest

from serve_apps.ingress import metrics
from serve_apps.ingress.metrics import IngressMetrics


@pytest.fixture
def seen(monkeypatch):
    """What is set, counted and observed, by the metric's name."""
    calls = []

    def made(name):
        def note(value=1, tags=None):
            calls.append((name, value, tags))

        return SimpleNamespace(set=note, observe=note, inc=lambda tags=None: note(1, tags))

    for kind in ("counter", "gauge", "histogram"):
        monkeypatch.setattr(metrics, kind, made)
    return calls


def test_breakers_are_shown_each_time(seen):
    shown = IngressMetrics()
    for _ in range(2):  # Ray forgets a gauge that is not set again
        shown.breakers({"model": "closed", "store": "opened"})
    states = [(value, tags["name"]) for name, value, tags in seen if name == "llama_breaker_state"]
    assert states == [(0, "model"), (2, "store")] * 2


def test_a_request_is_counted_by_route_and_outcome(seen):
    IngressMetrics().request("/predict", "ok", 0.5)
    assert ("llama_request_duration_seconds", 0.5, {"path": "/predict"}) in seen
    assert ("llama_requests_total", 1, {"path": "/predict", "outcome": "ok"}) in seen
