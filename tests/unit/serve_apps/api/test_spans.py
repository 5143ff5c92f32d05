import asyncio

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from serve_apps.api.spans import SpanTracer


@pytest.fixture
def exported():
    return InMemorySpanExporter()


@pytest.fixture
def http(make_http, exported):
    return make_http(tracer=SpanTracer(SimpleSpanProcessor(exported), "1"))


def test_without_a_trace_of_the_client_each_request_begins_one(http, exported):
    for _ in range(2):
        http.post("/predict", {"prompt": "hi", "max_new_tokens": 2})
    roots = [span for span in exported.get_finished_spans() if span.name == "POST /predict"]
    assert len({span.context.trace_id for span in roots}) == 2
    assert all(span.parent is None for span in roots)


def test_what_is_the_clients_fault_is_no_error_of_the_trace(http, exported):
    assert http.post("/predict", {"prompt": ""}).status_code == 400
    (span,) = exported.get_finished_spans()
    assert (span.attributes["http.response.status_code"], span.status.status_code) == (400, StatusCode.UNSET)


def test_a_failure_of_the_server_is_an_error_of_the_trace(http, exported):
    asyncio.run(http.generator.engine.close())
    assert http.post("/predict", {"prompt": "hi", "max_new_tokens": 2}).status_code >= 500
    root = next(span for span in exported.get_finished_spans() if span.name == "POST /predict")
    assert (root.status.status_code, root.status.description) == (StatusCode.ERROR, "internal")


def test_probes_have_no_traces(http, exported):
    for path in ("/health", "/health/live", "/health/ready"):
        http.get(path)
    assert exported.get_finished_spans() == ()
