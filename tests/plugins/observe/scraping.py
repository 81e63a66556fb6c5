"""Metrics as Prometheus would read them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tvix_store.telemetry import METRICS, Metrics
from tvix_store.telemetry_prometheus import Exposition

__all__ = ["Page", "scraped"]


class Page:
    """What ``/metrics`` says."""

    def __init__(self, text: str) -> None:
        families = text_string_to_metric_families(text)
        self._samples = [sample for family in families for sample in family.samples]

    def get(self, name: str, **labels: str) -> float | None:
        """The sum over the samples with these labels, and perhaps others; ``None`` if there are none."""
        values = [
            sample.value for sample in self._samples if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(values) if values else None


def scraped(metrics: Metrics = METRICS) -> Page:
    """The metrics of this process."""
    page, content_type = Exposition(metrics).render("")
    assert content_type.startswith("text/plain")
    return Page(page.decode())
