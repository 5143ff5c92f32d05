import pytest

from serve_apps import serve_metrics


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """What is asked of Ray Serve, which makes metrics in replicas only."""
    asked = {}
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(
            serve_metrics.metrics, kind, lambda name, text, **more: asked.setdefault(name, (text, more))
        )
    return asked


def test_text_labels_and_buckets_are_those_of_the_catalogue(made):
    serve_metrics.counter("llama_requests_total")
    serve_metrics.gauge("llama_breaker_state")
    serve_metrics.histogram("llama_queue_wait_seconds")
    assert made["llama_requests_total"][1] == {"tag_keys": ("path", "outcome")}
    assert made["llama_breaker_state"][1] == {"tag_keys": ("name",)}
    assert made["llama_queue_wait_seconds"][1]["boundaries"][:2] == [0.005, 0.01]
    assert "arrival" in made["llama_queue_wait_seconds"][0]


def test_what_the_catalogue_does_not_know_is_not_made():
    with pytest.raises(KeyError):
        serve_metrics.gauge("llama_unknown")
