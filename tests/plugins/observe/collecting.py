"""Spans: of this process, kept in memory; of others, taken by a collector that they send them to."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_service
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tvix_store.telemetry import TRACING
from tvix_store.telemetry_otel import OtelTracer

__all__ = ["Collector", "Received", "parent_of", "tracing"]


@contextmanager
def tracing() -> Iterator[InMemorySpanExporter]:
    """Meanwhile, there are traces in this process; yields where they end up."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    TRACING.tracer = OtelTracer(provider)
    try:
        yield exporter
    finally:
        TRACING.tracer = None
        provider.shutdown()


def parent_of(span: ReadableSpan, spans: Sequence[ReadableSpan]) -> ReadableSpan | None:
    """The one of ``spans`` that ``span`` is directly below."""
    parent = span.parent
    return next((one for one in spans if parent and one.context and one.context.span_id == parent.span_id), None)


@dataclass(frozen=True)
class Received:
    """A span as a collector sees it."""

    service: str
    name: str
    trace_id: str
    attributes: dict[str, str]


class Collector(trace_grpc.TraceServiceServicer, metrics_grpc.MetricsServiceServicer):
    """An OpenTelemetry collector that keeps what it gets, on a port of its own."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.metrics: dict[str, str] = {}
        """Names of metrics, with the name of the service that sent them last."""
        self._has_more = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        metrics_grpc.add_MetricsServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Collector:
        self._server.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.stop(None).wait()

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._has_more:
            if isinstance(request, trace_service.ExportTraceServiceRequest):
                self.spans += _spans(request)
                answer: Any = trace_service.ExportTraceServiceResponse()
            else:
                for part in request.resource_metrics:
                    service = _attributes(part.resource.attributes)["service.name"]
                    self.metrics |= {metric.name: service for scope in part.scope_metrics for metric in scope.metrics}
                answer = metrics_service.ExportMetricsServiceResponse()
            self._has_more.notify_all()
        return answer

    def wait_for(self, trace_id: str, *names: str) -> list[Received]:
        """The spans of a trace, once those with these names are among them."""

        def of_trace() -> list[Received]:
            return [span for span in self.spans if span.trace_id == trace_id]

        with self._has_more:
            found = self._has_more.wait_for(lambda: set(names) <= {span.name for span in of_trace()}, 60)
            assert found, sorted((span.service, span.name) for span in of_trace())
            return of_trace()


def _spans(request: Any) -> Iterator[Received]:
    for part in request.resource_spans:
        service = _attributes(part.resource.attributes)["service.name"]
        for scope in part.scope_spans:
            for span in scope.spans:
                yield Received(service, span.name, span.trace_id.hex(), _attributes(span.attributes))


def _attributes(pairs: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in pairs}
