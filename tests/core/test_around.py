"""Calls go through what is around them, all of them, and those that are repeated are made as before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import replace
from typing import TypeVar

import pytest

from fakes.recorder import Recorder
from tvix_store.around import Around, AroundBlobService, AroundDirectoryService, AroundPathInfoService, Call
from tvix_store.blob import BlobReader, BlobService, BytesReader
from tvix_store.capabilities import Capabilities
from tvix_store.checked import CheckedBlobService
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, Unavailable
from tvix_store.forwarding import ForwardingBlobService
from tvix_store.path_info import NarStream
from tvix_store.testing import BlobServiceSuite, DirectoryServiceSuite, PathInfoServiceSuite
from tvix_store.testing.cancelling import cancel_at_once
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

T = TypeVar("T")
DATA = bytes(range(256)) * 1000
DIGEST = B3Digest.of(DATA)


class TestBlobs(BlobServiceSuite):
    @pytest.fixture
    def service(self) -> BlobService:
        return AroundBlobService(MemoryBlobService(), Recorder())


class TestDirectories(DirectoryServiceSuite):
    @pytest.fixture
    def service(self) -> AroundDirectoryService:
        return AroundDirectoryService(MemoryDirectoryService("test"), Recorder())


class TestPathInfos(PathInfoServiceSuite):
    @pytest.fixture
    def service(self) -> AroundPathInfoService:
        return AroundPathInfoService(MemoryPathInfoService("test"), Recorder())


class Twice(Around):
    """Makes a call again that failed, if that is allowed."""

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        try:
            return await operation()
        except Unavailable:
            if not call.is_repeatable:
                raise
            return await operation()


class Flaky(ForwardingBlobService):
    """Some of its reads fail."""

    def __init__(self, inner: BlobService, data: bytes = DATA, failing: Collection[int] = (2, 5, 9)) -> None:
        super().__init__(inner)
        self.data = data
        self.failing = failing
        self.n_reads = 0

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        return _Flaky(self)


class _Flaky(BytesReader):
    def __init__(self, service: Flaky) -> None:
        super().__init__(service.data)
        self.service = service

    async def read(self, max_bytes: int = 10_000) -> bytes:
        self.service.n_reads += 1
        if self.service.n_reads in self.service.failing:
            raise Unavailable("the line is cut")
        return await super().read(max_bytes)


async def whole(reader: BlobReader | None) -> bytes:
    assert reader is not None
    pieces = []
    async with reader:
        while piece := await reader.read(10_000):
            pieces.append(piece)
    return b"".join(pieces)


async def test_a_reader_that_failed_goes_on_where_it_was() -> None:
    service = AroundBlobService(Flaky(MemoryBlobService()), Twice())
    assert await whole(await service.open_read(DIGEST)) == DATA


async def test_a_reader_that_failed_after_a_seek_goes_on_where_it_was() -> None:
    service = AroundBlobService(Flaky(MemoryBlobService()), Twice())
    reader = await service.open_read(DIGEST)
    assert reader is not None
    await reader.seek(100_000)
    assert await whole(reader) == DATA[100_000:]


async def test_a_read_that_was_cancelled_takes_nothing_away() -> None:
    class Slow(BytesReader):
        async def read(self, max_bytes: int = 10_000) -> bytes:
            piece = await super().read(max_bytes)
            await asyncio.sleep(0)
            return piece

    class SlowBlobs(ForwardingBlobService):
        async def open_read(self, digest: B3Digest) -> BlobReader | None:
            return Slow(DATA)

    reader = await AroundBlobService(SlowBlobs(MemoryBlobService()), Recorder()).open_read(DIGEST)
    assert reader is not None
    await cancel_at_once(reader.read(10_000))
    assert await whole(reader) == DATA


async def test_pieces_of_a_nar_are_calls_too() -> None:
    closed = asyncio.Event()

    class Streaming(MemoryPathInfoService):
        async def open_nar(self, digest: bytes) -> NarStream | None:
            return NarStream(9, self.pieces())

        async def pieces(self) -> AsyncGenerator[bytes]:
            try:
                for piece in (b"first", b"last"):
                    yield piece
            finally:
                closed.set()

    recorder = Recorder()
    stream = await AroundPathInfoService(Streaming(), recorder).open_nar(bytes(20))
    assert stream is not None
    assert [piece async for piece in stream.pieces] == [b"first", b"last"]
    assert recorder.methods == ["open_nar", *["nar.read"] * 3]
    await stream.pieces.aclose()
    assert closed.is_set()


async def test_what_a_repeated_reader_gives_is_still_checked() -> None:
    flaky = Flaky(MemoryBlobService(), DATA[:-1] + b"!", failing=(2,))
    service = AroundBlobService(CheckedBlobService("test", flaky), Twice())
    with pytest.raises(CorruptObject):
        await whole(await service.open_read(DIGEST))


async def test_writes_to_a_stream_are_not_repeated() -> None:
    recorder = Recorder()
    service = AroundBlobService(AroundBlobService(MemoryBlobService(), recorder), Twice())
    async with await service.open_write() as writer:
        recorder.failure = Unavailable("the line is cut")
        with pytest.raises(Unavailable):
            await writer.write(b"x")
    assert recorder.methods == ["open_write", "writer.write"]


async def test_batches_stay_batches() -> None:
    recorder = Recorder()
    service = AroundBlobService(MemoryBlobService(), recorder)
    await service.put_many([HashedBlob(b"a"), HashedBlob(b"b")])
    await service.has_many([DIGEST] * 3)
    await service.get_many([DIGEST] * 4)
    assert recorder.calls == [("put_many", 2), ("has_many", 3), ("get_many", 4)]


async def test_a_list_that_cannot_begin_is_begun_again() -> None:
    blobs = MemoryBlobService()
    await blobs.put_many([HashedBlob(b"a"), HashedBlob(b"b")])
    recorder = Recorder()

    class Once(Twice):
        async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
            async def failing() -> T:
                recorder.calls.append((call.method, 0))
                if len(recorder.calls) == 1:
                    raise Unavailable("not yet")
                return await operation()

            return await super().call(call, failing)

    service = AroundBlobService(blobs, Once())
    assert {digest async for digest in service.list()} == {B3Digest.of(b"a"), B3Digest.of(b"b")}
    assert recorder.methods == ["list", "list"]


class Verifying(MemoryBlobService):
    capabilities = Capabilities(verifies=True)


def test_only_what_relays_may_say_that_it_verifies() -> None:
    assert ForwardingBlobService(Verifying()).capabilities == replace(Capabilities(), verifies=False)
    assert AroundBlobService(Verifying(), Recorder()).capabilities.verifies
