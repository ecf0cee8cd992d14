"""Sends spans of calls, batches and requests to destinations to an OpenTelemetry collector, over OTLP/HTTP.

A span is made of a measurement, at its end. So no package knows about tracing, and without HEADWATER_OTLP_ENDPOINT it
costs nothing. A call continues the trace of its `traceparent` header.

The extra `headwater[otlp]` has the libraries.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import metadata as installed
from typing import Any, Final

from headwater.base.metrics import Metrics, ResponseClass
from headwater.base.steps import StepCounts
from headwater.base.traceparent import current_traceparent
from headwater.server.errors import StartupError
from headwater.server.settings import Settings

TRACES_PATH: Final = "/v1/traces"
EXPORT_TIMEOUT_SECONDS: Final = 5.0
MAX_QUEUED_SPANS: Final = 2_048
"""Maximum number of spans that wait for the collector. Further ones are dropped."""
EXPORT_DELAY_SECONDS: Final = 1.0

_MISSING: Final = "HEADWATER_OTLP_ENDPOINT needs the extra otlp: install headwater[otlp]"
_METHODS: Final = tuple(name for name, value in vars(Metrics).items() if callable(value) and not name.startswith("_"))


class CombinedMetrics(Metrics):
    """Passes each measurement on to several."""

    def __init__(self, *parts: Metrics) -> None:
        for name in _METHODS:
            setattr(self, name, _each([getattr(part, name) for part in parts]))


def _each(functions: list[Callable[..., None]]) -> Callable[..., None]:
    def call(*arguments: Any, **keywords: Any) -> None:
        for function in functions:
            function(*arguments, **keywords)

    return call


class SpanMetrics(Metrics):
    """Makes spans of the measurements that have a duration."""

    def __init__(self, endpoint: str, process: str, share: float) -> None:
        """`process` is the name of this process, and `share` is that of the traces that are recorded.

        Raises StartupError if the libraries are missing.
        """
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            raise StartupError(_MISSING) from None
        resource = Resource(
            {
                "service.name": "headwater",
                "service.version": installed.version("headwater"),
                "service.instance.id": process,
            }
        )
        self._provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(share)))
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + TRACES_PATH, timeout=EXPORT_TIMEOUT_SECONDS)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter, max_queue_size=MAX_QUEUED_SPANS, schedule_delay_millis=EXPORT_DELAY_SECONDS * 1_000
            )
        )
        self._tracer = self._provider.get_tracer("headwater")
        self._propagator = TraceContextTextMapPropagator()
        self._kinds = trace.SpanKind
        self._error = trace.Status(trace.StatusCode.ERROR)

    def close(self) -> None:
        """Send the spans that wait, within the time limit of an export."""
        self._provider.shutdown()

    def rpc_handled(self, method: str, status: str, seconds: float) -> None:
        name = method.removeprefix("/")
        attributes = {"rpc.system": "grpc", "rpc.method": name, "rpc.response.status_code": status}
        self._add(name, self._kinds.SERVER, seconds, attributes, is_error=status in ("INTERNAL", "UNKNOWN"))

    def batch_processed(
        self,
        seconds: float,
        *,
        stored: int,
        duplicates: int,
        rejected: int,
        suppressed: int,
        identities: int,
        steps: StepCounts,
    ) -> None:
        attributes = {
            "headwater.events.stored": stored,
            "headwater.events.duplicate": duplicates,
            "headwater.events.rejected": rejected,
            "headwater.events.suppressed": suppressed,
            "headwater.identities": identities,
        }
        self._add("process batch", self._kinds.CONSUMER, seconds, attributes)

    def lane_run(self, kind: str, outcome: str, seconds: float, records: int) -> None:
        attributes: dict[str, str | int] = {"headwater.function.kind": kind, "headwater.records": records}
        self._add("run transformation", self._kinds.INTERNAL, seconds, attributes, is_error=outcome == "Limit")

    def delivery_requested(self, destination: int, response: ResponseClass, seconds: float, events: int) -> None:
        attributes = {
            "headwater.destination": destination,
            "headwater.events": events,
            "headwater.response": response,
        }
        self._add("deliver", self._kinds.CLIENT, seconds, attributes, is_error=response != "2xx")

    def _add(
        self, name: str, kind: Any, seconds: float, attributes: Mapping[str, str | int], *, is_error: bool = False
    ) -> None:
        """Add a span that ends now. `seconds` is its duration."""
        end = time.time_ns()
        parent = current_traceparent()
        context = self._propagator.extract({"traceparent": parent}) if parent else None
        span = self._tracer.start_span(
            name, context=context, kind=kind, attributes=attributes, start_time=end - int(seconds * 1e9)
        )
        if is_error:
            span.set_status(self._error)
        span.end(end)


@asynccontextmanager
async def traced(metrics: Metrics, settings: Settings, process: str) -> AsyncIterator[Metrics]:
    """Return metrics that also make spans, if the settings name a collector; otherwise the given ones.

    `process` is the name of this process. Raises StartupError if the libraries are missing.
    """
    if settings.otlp_endpoint is None:
        yield metrics
        return
    spans = SpanMetrics(settings.otlp_endpoint, process, settings.otlp_share)
    try:
        yield CombinedMetrics(metrics, spans)
    finally:
        await asyncio.to_thread(spans.close)
