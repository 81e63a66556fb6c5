"""Spans and metrics in the real SDK."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.trace import StatusCode

from plugins.grpc.loopback import connected, memory_services
from plugins.observe.collecting import parent_of, tracing
from tvix_store import telemetry
from tvix_store.blob import BlobService
from tvix_store.config import Kind
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import DirectoryService
from tvix_store.errors import Unavailable
from tvix_store.forwarding import ForwardingBlobService, ForwardingDirectoryService
from tvix_store.nodes import Directory
from tvix_store.telemetry import Metrics
from tvix_store.telemetry_observer import ObservedBlobService, ObservedDirectoryService, Observer
from tvix_store.telemetry_otel import export_metrics
from tvix_store_grpc.blob import GrpcBlobService
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService

pytestmark = pytest.mark.anyio

A = HashedBlob(b"a")


def observed_blobs(entry: str, inner: BlobService) -> BlobService:
    return ObservedBlobService(inner, Observer(entry, Kind.BLOB, Metrics()))


async def test_the_call_of_one_service_is_below_that_of_the_one_around_it() -> None:
    service = observed_blobs("root", observed_blobs("disk", MemoryBlobService()))
    with tracing() as exporter:
        await service.get_many([A.digest, A.digest])
    inner, outer = exporter.get_finished_spans()
    assert (inner.name, outer.name) == ("blob.get_many", "blob.get_many")
    assert parent_of(inner, [outer]) is outer
    assert outer.attributes == {"tvix_store.entry": "root", "tvix_store.objects": 2, "tvix_store.found": 0}
    assert outer.status.status_code is StatusCode.UNSET


async def test_a_call_that_failed_says_why() -> None:
    class Failing(ForwardingBlobService):
        async def has(self, digest: B3Digest) -> bool:
            raise Unavailable("the disk is away")

    with tracing() as exporter:
        with pytest.raises(Unavailable):
            await observed_blobs("root", Failing(MemoryBlobService())).has(A.digest)
        assert not telemetry.outgoing_headers()  # the span is not left behind
    (span,) = exporter.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "the disk is away")
    assert (span.attributes or {})["error.type"] == "unavailable"


async def test_pieces_have_no_spans() -> None:
    service = observed_blobs("root", MemoryBlobService())
    with tracing() as exporter:
        async with await service.open_write() as writer:
            await writer.write(A.data)
            await writer.close()
    assert [span.name for span in exporter.get_finished_spans()] == ["blob.open_write", "blob.writer.close"]


async def test_what_is_asked_for_between_two_items_is_below_the_listing() -> None:
    class Reading(ForwardingDirectoryService):
        async def get_many(self, digests):  # type: ignore[no-untyped-def]
            return await leaf.get_many(digests)

        get_recursive = DirectoryService.get_recursive  # the default, level by level

    leaf = ObservedDirectoryService(MemoryDirectoryService(), Observer("leaf", Kind.DIRECTORY, Metrics()))
    child = Directory()
    await leaf.put(child)
    service = ObservedDirectoryService(Reading(leaf), Observer("root", Kind.DIRECTORY, Metrics()))
    with tracing() as exporter:
        assert [one async for one in service.get_recursive(child.digest)] == [child]
    spans = exporter.get_finished_spans()
    whole = next(span for span in spans if span.name == "directory.get_recursive")
    assert [parent_of(span, spans) for span in spans if span.name == "directory.get_many"] == [whole]


async def test_a_listing_given_up_elsewhere_ends_its_span() -> None:
    blobs = MemoryBlobService()
    await blobs.put_many([A])
    with tracing() as exporter:
        listing = observed_blobs("root", blobs).list()
        await anext(listing)
        await asyncio.create_task(listing.aclose())  # type: ignore[attr-defined]  # it is a generator
    assert [span.name for span in exporter.get_finished_spans()] == ["blob.list"]


async def test_a_trace_goes_on_over_grpc() -> None:
    async with connected(memory_services()) as peer:
        service = observed_blobs("far", GrpcBlobService("far", peer))
        with tracing() as exporter:
            await service.put_many([A])
            reader = await service.open_read(A.digest)
            assert reader is not None
            await reader.aclose()
            async with await service.open_write() as writer:
                await writer.write(bytes(100))
                await writer.close()
        spans = exporter.get_finished_spans()
    served = [span for span in spans if span.kind.name == "SERVER"]
    assert len(served) >= 3
    names = {span.name.rpartition("/")[2]: getattr(parent_of(span, spans), "name", None) for span in served}
    assert names["PutBlobs"] == "blob.put_many"
    assert {span.attributes["rpc.grpc.status"] for span in served if span.attributes} == {"OK"}


async def test_metrics_come_with_their_labels_also_those_that_came_later() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    metrics = Metrics()
    metrics.counter("early", "Early.", ["entry"])("a").value += 2
    export_metrics(provider, metrics)
    service = ObservedBlobService(MemoryBlobService(), Observer("root", Kind.BLOB, metrics))
    await service.put_many([A])
    metrics.number("busy", "Busy.")().value = 7

    data = reader.get_metrics_data()
    assert data is not None
    points: dict[str, list[Any]] = {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert [(point.value, point.attributes) for point in points["early"]] == [(2, {"entry": "a"})]
    assert [point.value for point in points["busy"]] == [7]
    written = {"entry": "root", "kind": "blob", "method": "put_many", "result": "written"}
    counted = [point for point in points["tvix_store_objects"] if point.attributes == written]
    assert isinstance(counted[0], NumberDataPoint)
    assert counted[0].value == 1
    (took,) = points["tvix_store_call_seconds"]
    assert isinstance(took, HistogramDataPoint)
    assert (took.count, tuple(took.explicit_bounds)) == (1, telemetry.SECONDS)
    assert points["process.memory.usage"][0].value > 1_000_000
    provider.shutdown()


async def test_without_a_tracer_there_are_no_headers_and_no_spans() -> None:
    assert telemetry.outgoing_headers() == ()
    with telemetry.span("x", {}) as span:
        assert span is None


def test_a_store_without_telemetry_imports_none_of_it() -> None:
    program = """
import sys
from tvix_store.cli import run
import tvix_store_grpc.channel, tvix_store_grpc.server.frontend, tvix_store_http.frontend, tvix_store_nix.http_upstream
print([name for name in sys.modules if name.startswith(("opentelemetry", "prometheus_client"))])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
