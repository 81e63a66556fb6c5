"""The metrics of this process as Prometheus reads them, and with them what the process costs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tvix_store.telemetry import METRICS, AnyFamily, Histogram, Metrics, Number

__all__ = ["Exposition"]


class _Everything(Collector):
    """Our metrics and those of the process, with the labels that all of them have."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._process = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._process)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        labels = self._metrics.labels
        for metric in (*map(_metric, self._metrics.families()), *self._process.collect()):
            if labels:
                metric.samples = [sample._replace(labels={**sample.labels, **labels}) for sample in metric.samples]
            yield metric


def _metric(family: AnyFamily) -> Metric:
    if family.kind is Histogram:
        histogram = HistogramMetricFamily(family.name, family.text, labels=family.labels)
        for values, child in family.children():
            bounds = [*map(str, child.bounds), "+Inf"]
            buckets = list(zip(bounds, map(float, accumulate(child.counts)), strict=True))
            histogram.add_metric(values, buckets, child.total)
        return histogram
    make = GaugeMetricFamily if family.kind is Number else CounterMetricFamily
    metric = make(family.name, family.text, labels=family.labels)
    for values, child in family.children():
        metric.add_metric(values, child.value)
    return metric


class Exposition:
    """Renders metrics.

    Args:
        metrics: What is rendered.
    """

    def __init__(self, metrics: Metrics = METRICS) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Everything(metrics))

    def render(self, accept: str) -> tuple[bytes, str]:
        """All metrics as they are now; takes milliseconds.

        Args:
            accept: What the client would like, as in the header; it gets plain Prometheus text or OpenMetrics.

        Returns:
            The page, and its media type.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
