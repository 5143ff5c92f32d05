"""Traces: one for each request, with its stages as spans, sent by OpenTelemetry when the request has ended.

Needs the extra `otel`. `OTEL_EXPORTER_OTLP_ENDPOINT` and its relatives say where to, as OpenTelemetry's SDK reads them.
"""

from collections.abc import Mapping
from typing import Protocol

from llama_platform import __version__
from llama_platform.errors import ConfigError
from serve_apps.api.middleware.access_log import RequestRecord

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracer(Protocol):
    """Receives requests that have ended."""

    def ended(self, record: RequestRecord, status: int) -> None:
        """Send the trace of a request; status 0 where the client left before a response."""
        ...

    def close(self) -> None:
        """Send what waits."""
        ...


class NoTracer:
    """Sends nothing."""

    def ended(self, record: RequestRecord, status: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def make_tracer(environ: Mapping[str, str]) -> Tracer:
    """Return what sends traces to the endpoint of the environment, or nothing where none is named.

    Raises:
        ConfigError: an endpoint is named, and the extra `otel` is not installed.
    """
    named = next((name for name in ENDPOINTS if environ.get(name)), None)
    if named is None:
        return NoTracer()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        text = f"{named} is set, and the extra is not installed: pip install 'llama-platform[otel]'"
        raise ConfigError(text) from error

    from serve_apps.api.spans import SpanTracer

    return SpanTracer(BatchSpanProcessor(OTLPSpanExporter()), __version__)
