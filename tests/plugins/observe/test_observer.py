"""What is counted of calls."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from fakes.recorder import Recorder
from plugins.observe.scraping import Page, scraped
from tvix_store.around import AroundBlobService
from tvix_store.blob import BlobReader, BlobService
from tvix_store.checked import CheckedBlobService
from tvix_store.config import Kind
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import (
    CorruptObject,
    DanglingReference,
    InvalidObject,
    OutOfSpace,
    StoreError,
    Unavailable,
)
from tvix_store.forwarding import ForwardingBlobService, ForwardingPathInfoService
from tvix_store.nodes import Directory
from tvix_store.path_info import NarStream
from tvix_store.telemetry import Metrics
from tvix_store.telemetry_observer import (
    ObservedBlobService,
    ObservedDirectoryService,
    ObservedPathInfoService,
    Observer,
    observed,
    outcome_of,
)
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

A, B = HashedBlob(b"a" * 100), HashedBlob(b"b" * 1000)
ABSENT = B3Digest.of(b"absent")


class Blobs:
    """A blob service that is observed, and what was counted."""

    def __init__(self, inner: BlobService | None = None) -> None:
        self.metrics = Metrics()
        self.recorder = Recorder()
        recorded = AroundBlobService(inner or MemoryBlobService(), self.recorder)
        self.service = ObservedBlobService(recorded, Observer("near", Kind.BLOB, self.metrics))

    def calls(self, method: str, outcome: str) -> float | None:
        return self._get("tvix_store_calls_total", method=method, outcome=outcome)

    def objects(self, method: str, result: str) -> float | None:
        return self._get("tvix_store_objects_total", method=method, result=result)

    def bytes(self, direction: str) -> float | None:
        return self._get("tvix_store_bytes_total", direction=direction)

    def corrupt(self) -> float | None:
        return self._get("tvix_store_corrupt_objects_total")

    def _get(self, name: str, **labels: str) -> float | None:
        return scraped(self.metrics).get(name, entry="near", kind="blob", **labels)


async def test_batches_are_counted_by_object_and_byte() -> None:
    blobs = Blobs()
    await blobs.service.put_many([A, B])
    await blobs.service.get_many([A.digest, ABSENT, B.digest])
    await blobs.service.has_many([A.digest, ABSENT])
    assert (blobs.calls("put_many", "ok"), blobs.objects("put_many", "written")) == (1, 2)
    assert (blobs.objects("get_many", "hit"), blobs.objects("get_many", "miss")) == (2, 1)
    assert (blobs.objects("has_many", "hit"), blobs.objects("has_many", "miss")) == (1, 1)
    assert (blobs.bytes("written"), blobs.bytes("read")) == (1100, 1100)


async def test_streams_are_counted_by_byte() -> None:
    blobs = Blobs()
    async with await blobs.service.open_write() as writer:
        await writer.write(A.data)
        await writer.write(B.data)
        digest = await writer.close()
    reader = await blobs.service.open_read(digest)
    assert reader is not None
    async with reader:
        while await reader.read(300):
            pass
    assert (blobs.bytes("written"), blobs.bytes("read")) == (1100, 1100)
    assert (blobs.objects("writer.close", "written"), blobs.objects("open_read", "hit")) == (1, 1)
    assert await blobs.service.open_read(ABSENT) is None
    assert blobs.objects("open_read", "miss") == 1


async def test_durations_are_counted() -> None:
    blobs = Blobs()
    await blobs.service.has(ABSENT)
    page = scraped(blobs.metrics)
    assert page.get("tvix_store_call_seconds_count", entry="near", kind="blob", method="has") == 1


@pytest.mark.parametrize(
    ("failure", "outcome", "corrupt"),
    [
        (Unavailable("x"), "unavailable", 0),
        (OutOfSpace("x"), "out_of_space", 0),
        (InvalidObject("x"), "invalid_object", 0),
        (CorruptObject("x"), "corrupt_object", 1),
        (DanglingReference("x"), "dangling_reference", 0),
        (RuntimeError("x"), "bug", 0),
    ],
)
async def test_failures_are_counted_by_kind(failure: Exception, outcome: str, corrupt: int) -> None:
    blobs = Blobs()
    blobs.recorder.failure = failure
    with pytest.raises(type(failure)):
        await blobs.service.get_many([A.digest])
    assert (blobs.calls("get_many", outcome), blobs.calls("get_many", "ok")) == (1, 0)
    assert (blobs.objects("get_many", "miss"), blobs.corrupt()) == (0, corrupt)


def test_an_error_of_a_plugin_counts_as_the_nearest_of_ours() -> None:
    class Absent(DanglingReference):
        pass

    class Odd(StoreError):
        pass

    assert (outcome_of(Absent("x")), outcome_of(Odd("x"))) == ("dangling_reference", "store_error")


async def test_a_cancelled_call_is_no_failure_of_the_service() -> None:
    class Slow(ForwardingBlobService):
        async def has(self, digest: B3Digest) -> bool:
            started.set()
            return await asyncio.Event().wait()

    started = asyncio.Event()
    blobs = Blobs(Slow(MemoryBlobService()))
    task = asyncio.create_task(blobs.service.has(ABSENT))
    await started.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert blobs.calls("has", "cancelled") == 1


async def test_what_core_finds_corrupt_is_counted() -> None:
    class Wrong(ForwardingBlobService):
        async def open_read(self, digest: B3Digest) -> BlobReader | None:
            return await self.inner.open_read(A.digest)

    memory = MemoryBlobService()
    await memory.put_many([A])
    blobs = Blobs(CheckedBlobService("wrong", Wrong(memory)))
    reader = await blobs.service.open_read(B.digest)
    assert reader is not None
    with pytest.raises(CorruptObject):
        await reader.read()
    assert (blobs.corrupt(), blobs.calls("reader.read", "corrupt_object")) == (1, 1)


async def test_expected_counters_are_there_from_the_start() -> None:
    blobs = Blobs()
    assert [blobs.calls("get_many", outcome) for outcome in ("ok", "unavailable", "corrupt_object", "bug")] == [0] * 4
    assert [blobs.calls("put_many", outcome) for outcome in ("ok", "unavailable", "out_of_space", "bug")] == [0] * 4
    assert [blobs.objects("get_many", result) for result in ("hit", "miss")] == [0, 0]
    assert (blobs.bytes("read"), blobs.bytes("written"), blobs.corrupt()) == (0, 0, 0)


async def test_lists_are_counted_by_item_also_when_nobody_wants_more() -> None:
    blobs = Blobs()
    await blobs.service.put_many([A, B])
    assert len([digest async for digest in blobs.service.list()]) == 2
    some = blobs.service.list()
    await anext(some)
    await some.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert (blobs.calls("list", "ok"), blobs.objects("list", "listed")) == (2, 3)


async def test_a_list_that_breaks_off_has_failed() -> None:
    class Broken(ForwardingBlobService):
        async def list(self) -> AsyncIterator[B3Digest]:
            yield A.digest
            raise Unavailable("no more")

    blobs = Blobs(Broken(MemoryBlobService()))
    with pytest.raises(Unavailable):
        [digest async for digest in blobs.service.list()]
    assert (blobs.calls("list", "unavailable"), blobs.calls("list", "ok")) == (1, 0)
    assert blobs.objects("list", "listed") == 1


async def test_directories_are_counted() -> None:
    metrics = Metrics()
    service = ObservedDirectoryService(MemoryDirectoryService(), Observer("root", Kind.DIRECTORY, metrics))
    directory = Directory()
    await service.put_many([directory])
    await service.get_many([directory.digest, ABSENT])
    assert [found async for found in service.get_recursive(directory.digest)] == [directory]

    def objects(method: str, result: str) -> float | None:
        page = scraped(metrics)
        return page.get("tvix_store_objects_total", entry="root", kind="directory", method=method, result=result)

    assert (objects("put_many", "written"), objects("get_many", "hit"), objects("get_many", "miss")) == (1, 1, 1)
    assert objects("get_recursive", "listed") == 1


async def test_nars_of_path_infos_are_counted_and_so_is_what_breaks_them() -> None:
    class Nars(ForwardingPathInfoService):
        async def open_nar(self, digest: bytes) -> NarStream | None:
            async def pieces() -> AsyncGenerator[bytes]:
                yield b"x" * 10
                raise CorruptObject("not what was announced")

            return NarStream(20, pieces())

    metrics = Metrics()
    service = ObservedPathInfoService(Nars(MemoryPathInfoService()), Observer("far", Kind.PATH_INFO, metrics))
    stream = await service.open_nar(bytes(20))
    assert stream is not None
    with pytest.raises(CorruptObject):
        [piece async for piece in stream.pieces]
    page = scraped(metrics)
    assert page.get("tvix_store_bytes_total", entry="far", kind="path_info", direction="read") == 10
    assert page.get("tvix_store_corrupt_objects_total", entry="far", kind="path_info") == 1


def test_nothing_is_observed_twice() -> None:
    once = observed("root", MemoryBlobService())
    assert isinstance(once, ObservedBlobService)
    assert observed("root", once) is once


def test_a_page_says_none_of_what_is_not_there() -> None:
    assert Page("").get("tvix_store_calls_total") is None


async def test_a_listing_that_failed_is_not_left_for_the_garbage_collector() -> None:
    class Broken(ForwardingBlobService):
        async def list(self) -> AsyncIterator[B3Digest]:
            yield A.digest
            raise Unavailable("no more")

    async def failed() -> weakref.ref[Unavailable]:
        try:
            [digest async for digest in service.list()]
        except Unavailable as exc:
            return weakref.ref(exc)
        raise AssertionError

    service = Blobs(Broken(MemoryBlobService())).service
    gc.disable()
    try:
        failure = await failed()
        assert failure() is None
    finally:
        gc.enable()
