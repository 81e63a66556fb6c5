"""Counting, timing and tracing calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any

from tvix_store.telemetry import METRICS, TRACING, Counter, Histogram, Metrics, Span

__all__ = ["CallMetrics", "MethodMetrics", "Running"]

_STATUSES = ("OK", "CANCELLED", "NOT_FOUND", "UNAVAILABLE", "INTERNAL", "DATA_LOSS")
_SERVER_FAILURES = ("CANCELLED", "UNAVAILABLE", "INTERNAL", "DATA_LOSS", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED")
"""The others are what a client did wrong, or an answer that it may well have expected."""

_TRACE_CONTEXT = ("traceparent", "tracestate")


class CallMetrics:
    """The metrics of one frontend.

    Args:
        frontend: The name of its entry.
        metrics: Where they are.
    """

    def __init__(self, frontend: str, metrics: Metrics = METRICS) -> None:
        self.frontend = frontend
        self.calls = metrics.counter(
            "tvix_store_grpc_calls", "Calls that have ended, by status.", ["frontend", "service", "method", "status"]
        )
        self.seconds = metrics.histogram(
            "tvix_store_grpc_call_seconds",
            "How long calls took, until the end of the answer.",
            ["frontend", "service", "method"],
        )
        self.in_flight = metrics.number("tvix_store_grpc_calls_in_flight", "Calls under way.", ["frontend"])(frontend)

    def method(self, service: str, name: str) -> MethodMetrics:
        """Those of one method; what can be expected to be counted is shown from now on, as 0."""
        return MethodMetrics(self, service, name)


class MethodMetrics:
    """The metrics of one method.

    Args:
        metrics: Of the frontend.
        service: Its full name.
        name: Of the method.
    """

    def __init__(self, metrics: CallMetrics, service: str, name: str) -> None:
        self._metrics = metrics
        self._labels = (metrics.frontend, service, name)
        self._calls: dict[str, Counter] = {status: metrics.calls(*self._labels, status) for status in _STATUSES}
        self._seconds: Histogram | None = None

    def begin(self, metadata: Callable[[], Any]) -> Running:
        """Count a call that is under way.

        Args:
            metadata: What the client sent along; asked for if there are traces, since it may continue one.
        """
        self._metrics.in_flight.value += 1
        tracer = TRACING.tracer
        if tracer is None:
            return Running(self, None)
        frontend, service, name = self._labels
        attributes = {
            "tvix_store.frontend": frontend,
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": name,
        }
        caller: Mapping[str, str] = {key: value for key, value in metadata() or () if key in _TRACE_CONTEXT}
        return Running(self, tracer.start(f"{service}/{name}", attributes, caller))

    def ended(self, status: str, seconds: float) -> None:
        """Count its end."""
        self._metrics.in_flight.value -= 1
        calls = self._calls.get(status)
        if calls is None:
            calls = self._calls[status] = self._metrics.calls(*self._labels, status)
        calls.value += 1
        if self._seconds is None:
            self._seconds = self._metrics.seconds(*self._labels)
        self._seconds.observe(seconds)


class Running:
    """A call that is under way.

    Args:
        method: Its method.
        span: The part of a trace that it is; ``None`` if there are no traces.
    """

    __slots__ = ("_method", "_span", "_started")

    def __init__(self, method: MethodMetrics, span: Span | None) -> None:
        self._method = method
        self._span = span
        self._started = perf_counter()

    def active(self) -> AbstractContextManager[object]:
        """Meanwhile, what happens belongs to this call."""
        return nullcontext() if self._span is None else self._span.active()

    def end(self, status: str, failure: BaseException | None = None) -> float:
        """Count it.

        Args:
            status: Name of the code it ended with.
            failure: Why, if it is no success.

        Returns:
            How many seconds it took.
        """
        seconds = perf_counter() - self._started
        self._method.ended(status, seconds)
        if self._span is not None:
            self._span.set("rpc.grpc.status", status)
            self._span.end(failure if status in _SERVER_FAILURES else None)
        return seconds
