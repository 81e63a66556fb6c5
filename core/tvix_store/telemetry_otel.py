"""Metrics and traces by way of OpenTelemetry; needs the extra ``otel``.

Counters and numbers are read when they are exported; only durations are recorded twice. Traces go on from and to
others as W3C trace context has it; baggage is not passed on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from importlib.metadata import version

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tvix_store.errors import StoreError
from tvix_store.telemetry import (
    METRICS,
    AnyFamily,
    Attribute,
    Counter,
    Family,
    Histogram,
    Metrics,
    Number,
    Span,
    Tracer,
)
from tvix_store.telemetry_observer import outcome_of

__all__ = ["OtelTracer", "export_metrics"]

_SCOPE = "tvix_store"
_W3C = TraceContextTextMapPropagator()


class _OtelSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def active(self) -> AbstractContextManager[object]:
        return trace.use_span(self._span, end_on_exit=False, record_exception=False, set_status_on_exception=False)

    def set(self, key: str, value: Attribute) -> None:
        self._span.set_attribute(key, value)

    def end(self, failure: BaseException | None = None) -> None:
        if failure is not None and self._span.is_recording():
            outcome = outcome_of(failure)
            self._span.set_attribute("error.type", outcome)
            # Only the text of our own errors is made to be seen by others.
            text = str(failure) if isinstance(failure, StoreError) else type(failure).__name__
            self._span.set_status(Status(StatusCode.ERROR, text))
        self._span.end()


class OtelTracer(Tracer):
    """Makes spans of OpenTelemetry.

    Args:
        provider: Where they go.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer(_SCOPE, version("tvix-store"))

    def start(self, name: str, attributes: Mapping[str, Attribute], caller: Mapping[str, str] | None) -> Span:
        if caller is None:
            return _OtelSpan(self._tracer.start_span(name, attributes=attributes))
        context = _W3C.extract(caller)
        return _OtelSpan(self._tracer.start_span(name, context, SpanKind.SERVER, attributes))

    def headers(self) -> Sequence[tuple[str, str]]:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, otel_context.get_current())
        return list(carrier.items())


def export_metrics(provider: MeterProvider, metrics: Metrics = METRICS) -> None:
    """Show what is in ``metrics``, and what comes into it later, to OpenTelemetry; and what the process costs."""
    meter = provider.get_meter(_SCOPE, version("tvix-store"))
    metrics.added = partial(_export, meter)
    for family in metrics.families():
        _export(meter, family)
    _export_process(meter)


def _export(meter: Meter, family: AnyFamily) -> None:
    unit = "s" if family.name.endswith("_seconds") else "By" if family.name.endswith("_bytes") else "1"
    if family.kind is Histogram:
        _export_histogram(meter, family, unit)
    elif family.kind is Number:
        meter.create_observable_gauge(family.name, [partial(_observations, family)], unit, family.text)
    else:
        meter.create_observable_counter(family.name, [partial(_observations, family)], unit, family.text)


def _observations(family: Family[Counter] | Family[Number], options: CallbackOptions) -> Iterator[Observation]:
    for values, child in family.children():
        yield Observation(child.value, dict(zip(family.labels, values, strict=True)))


def _export_histogram(meter: Meter, family: Family[Histogram], unit: str) -> None:
    instruments = {}

    def added(values: tuple[str, ...], child: Histogram) -> None:
        bounds = tuple(child.bounds)
        if bounds not in instruments:
            instruments[bounds] = meter.create_histogram(
                family.name, unit, family.text, explicit_bucket_boundaries_advisory=bounds
            )
        attributes = dict(zip(family.labels, values, strict=True))
        child.record = partial(instruments[bounds].record, attributes=attributes)

    family.added = added
    for values, child in family.children():
        added(values, child)


def _export_process(meter: Meter) -> None:
    def of(read: Callable[[], float]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda options: [Observation(read())]

    meter.create_observable_gauge("process.memory.usage", [of(_resident_bytes)], "By", "Resident memory.")
    meter.create_observable_gauge(
        "process.open_file_descriptor.count", [of(_open_files)], "1", "Open file descriptors."
    )
    meter.create_observable_counter("process.cpu.time", [of(_cpu_s)], "s", "Processor time used.")


def _resident_bytes() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _open_files() -> float:
    return len(os.listdir("/proc/self/fd")) - 1  # without the one that lists them


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system
