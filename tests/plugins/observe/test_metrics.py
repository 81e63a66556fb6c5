"""Families and children, and how Prometheus sees them."""

from __future__ import annotations

import asyncio

import pytest

from plugins.observe.scraping import Page, scraped
from tvix_store.telemetry import Metrics
from tvix_store.telemetry_process import watching_process
from tvix_store.telemetry_prometheus import Exposition


def test_a_child_is_shown_as_0_before_anything_is_counted() -> None:
    metrics = Metrics()
    calls = metrics.counter("calls", "Calls.", ["entry"])
    calls("root")
    assert scraped(metrics).get("calls_total", entry="root") == 0
    calls("root").value += 3
    assert scraped(metrics).get("calls_total", entry="root") == 3


def test_buckets_hold_what_is_up_to_their_bound() -> None:
    metrics = Metrics()
    took = metrics.histogram("took_seconds", "Time.", bounds=(0.1, 1.0))()
    for value in (0.05, 0.1, 0.5, 7.0):
        took.observe(value)
    page = scraped(metrics)
    assert [page.get("took_seconds_bucket", le=bound) for bound in ("0.1", "1.0", "+Inf")] == [2, 3, 4]
    assert page.get("took_seconds_count") == 4
    assert page.get("took_seconds_sum") == pytest.approx(7.65)


def test_a_name_stands_for_one_family() -> None:
    metrics = Metrics()
    assert metrics.counter("calls", "Calls.", ["entry"]) is metrics.counter("calls", "Calls.", ["entry"])
    with pytest.raises(ValueError, match="calls already"):
        metrics.counter("calls", "Calls.", ["name"])
    with pytest.raises(ValueError, match="calls already"):
        metrics.number("calls", "Calls.", ["entry"])


def test_a_label_too_few_is_an_error() -> None:
    with pytest.raises(ValueError, match="labels"):
        Metrics().counter("calls", "Calls.", ["entry", "method"])("root")


def test_labels_of_the_process_are_on_everything() -> None:
    metrics = Metrics()
    metrics.counter("calls", "Calls.", ["entry"])("root")
    metrics.labels["worker"] = "17"
    page = scraped(metrics)
    assert page.get("calls_total", entry="root", worker="17") == 0
    assert page.get("process_open_fds", worker="17")


def test_label_values_are_escaped() -> None:
    metrics = Metrics()
    metrics.counter("calls", "Calls.", ["entry"])('a"b\\c\n').value += 1
    assert scraped(metrics).get("calls_total", entry='a"b\\c\n') == 1


def test_openmetrics_for_who_asks_for_it() -> None:
    page, content_type = Exposition(Metrics()).render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")


def test_what_the_process_costs() -> None:
    page = Page(Exposition(Metrics()).render("")[0].decode())
    for name in ("process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"):
        assert page.get(name), name


@pytest.mark.anyio
async def test_the_loop_is_watched() -> None:
    metrics = Metrics()
    looked = asyncio.Event()
    lag = metrics.histogram(
        "tvix_store_event_loop_lag_seconds", "How late the event loop was, looked at now and then."
    )()
    lag.record = lambda value: looked.set()
    async with watching_process(metrics, interval_s=0.0):
        await looked.wait()
    assert scraped(metrics).get("tvix_store_event_loop_lag_seconds_count")
    assert scraped(metrics).get("tvix_store_build_info") == 1
