"""Spans of a request, made by OpenTelemetry's SDK from what its record knows."""

from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from serve_apps.api.middleware.access_log import RequestRecord

LOOKS = ("/health", "/health/live", "/health/ready")
"""Routes that probes ask every few seconds; they have no traces."""


class _GivenIds(RandomIdGenerator):
    """Gives a trace the id that the access log has for its request."""

    trace_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id


class SpanTracer:
    """Lives in one event loop; a thread of the SDK sends."""

    def __init__(self, processor: SpanProcessor, release: str) -> None:
        """Send through `processor`.

        Args:
            processor: takes spans that have ended.
            release: version of the platform, which every trace names.
        """
        self._ids = _GivenIds()
        resource = Resource.create({SERVICE_NAME: "llama-platform", SERVICE_VERSION: release})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("serve_apps")

    def ended(self, record: RequestRecord, status: int) -> None:
        """Send the spans of a request that has ended; see Tracer."""
        if record.route in LOOKS:
            return
        known = record.trace()
        context, self._ids.trace_id = None, int(known.trace_id, 16)
        if known.parent_span is not None:
            parent = SpanContext(self._ids.trace_id, int(known.parent_span, 16), True, TraceFlags(TraceFlags.SAMPLED))
            context = set_span_in_context(NonRecordingSpan(parent))
        root = self._tracer.start_span(
            f"{known.method} {record.route}",
            context=context,
            kind=SpanKind.SERVER,
            start_time=known.begun_ns,
            attributes={
                "http.request.method": known.method,
                "http.route": record.route,
                "http.response.status_code": status,
                "llama.request": record.request_id,
                "llama.outcome": known.outcome,
                **known.facts,
            },
        )
        if status == 0 or status >= 500:
            root.set_status(Status(StatusCode.ERROR, known.outcome))
        inside = set_span_in_context(root)
        for stage in known.stages:
            span = self._tracer.start_span(stage.name, context=inside, start_time=stage.begun_ns)
            span.end(stage.ended_ns)
        root.end(known.ended_ns)

    def close(self) -> None:
        """Send what waits; see Tracer."""
        self._provider.shutdown()
