"""Sending metrics and traces to an OpenTelemetry collector; needs the extra ``otel``.

Where it is, and what is sent how often, the SDK takes from the environment: ``OTEL_EXPORTER_OTLP_ENDPOINT``,
``OTEL_TRACES_SAMPLER``, ``OTEL_METRIC_EXPORT_INTERVAL``, ``OTEL_SERVICE_NAME`` and others.
"""

from __future__ import annotations

import os
import threading
import uuid
from dataclasses import dataclass
from importlib.metadata import version

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tvix_store.telemetry_otel import OtelTracer, export_metrics

__all__ = ["Exporting", "start_exporting"]


@dataclass(frozen=True, slots=True)
class Exporting:
    """What is exported, until it is stopped.

    Args:
        tracer: Makes the spans.
        spans: Sends them.
        metrics: Sends the metrics.
    """

    tracer: OtelTracer
    spans: TracerProvider
    metrics: MeterProvider

    def stop(self, timeout_s: float) -> None:
        """Send what has not been sent, for as long as that may take. Blocks."""
        stopping = threading.Thread(target=self._stop, args=(timeout_s,), daemon=True)
        stopping.start()
        stopping.join(timeout_s)

    def _stop(self, timeout_s: float) -> None:
        self.spans.shutdown()
        self.metrics.shutdown(timeout_s * 1000)


def start_exporting() -> Exporting:
    """Set up what is to be sent, for this process as a whole: others' spans and metrics go the same way."""
    resource = _resource()
    spans = TracerProvider(resource=resource, shutdown_on_exit=False)
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    meters = MeterProvider([reader], resource, shutdown_on_exit=False)
    trace.set_tracer_provider(spans)
    metrics.set_meter_provider(meters)
    export_metrics(meters)
    return Exporting(OtelTracer(spans), spans, meters)


def _resource() -> Resource:
    """What is said of this process; the environment is right where it says something else."""
    ours = Resource(
        {
            "service.name": os.environ.get("OTEL_SERVICE_NAME") or "tvix-store",
            "service.version": version("tvix-store"),
            "service.instance.id": str(uuid.uuid4()),
            "process.pid": os.getpid(),
        }
    )
    return Resource.create().merge(ours).merge(OTELResourceDetector().detect())
