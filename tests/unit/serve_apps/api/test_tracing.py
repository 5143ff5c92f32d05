"""Traces over HTTP to a collector in this process, and none where none are wanted."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llama_platform.errors import ConfigError
from serve_apps.api.tracing import NoTracer, make_tracer


@pytest.fixture
def collector():
    """A collector of OTLP over HTTP: (URL, spans by name)."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans = {}

    class Collect(BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.update({span.name: span for span in scope.spans})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    server.server_close()


def test_a_request_is_one_trace_with_its_stages(collector, make_http, monkeypatch):
    url, spans = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    tracer = make_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": url})
    http = make_http(tracer=tracer, index="docs")
    body = {"question": "hi", "max_new_tokens": 4, "documents": [{"text": "hi there"}]}
    headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "X-Request-ID": "r1"}
    assert http.post("/rag", body, headers=headers).status_code == 200
    tracer.close()
    assert set(spans) == {"POST /rag", "search", "generate"}
    root = spans["POST /rag"]
    assert root.parent_span_id.hex() == "b" * 16
    assert {span.trace_id.hex() for span in spans.values()} == {"a" * 32}
    for name in ("search", "generate"):
        assert spans[name].parent_span_id == root.span_id
        assert root.start_time_unix_nano <= spans[name].start_time_unix_nano <= spans[name].end_time_unix_nano
        assert spans[name].end_time_unix_nano <= root.end_time_unix_nano
    told = {attribute.key: attribute.value for attribute in root.attributes}
    assert told["llama.request"].string_value == "r1"
    assert told["http.response.status_code"].int_value == 200
    assert told["llama.completion_tokens"].int_value > 0


def test_nothing_is_sent_without_an_endpoint():
    assert isinstance(make_tracer({}), NoTracer)


def test_an_endpoint_without_the_extra_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match="otel"):
        make_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
