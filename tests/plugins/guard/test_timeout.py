"""What takes too long is given up: calls, the items of those that answer bit by bit, pieces of streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import pytest

from fakes.services import Hang
from tvix_store.around import AroundBlobService, AroundDirectoryService, AroundPathInfoService
from tvix_store.blob import BlobReader, BlobWriter, BytesReader
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import DirectoryService
from tvix_store.errors import StoreError, Unavailable
from tvix_store.forwarding import ForwardingBlobService, ForwardingDirectoryService
from tvix_store.nodes import Directory
from tvix_store.path_info import NarStream
from tvix_store_guard.timeout import Timeout
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

BLOB = HashedBlob(b"blob")


class Times:
    """Makes time-outs, which run out when they are told to."""

    def __init__(self) -> None:
        self.timeouts: list[asyncio.Timeout] = []
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> asyncio.Timeout:
        self.seconds.append(seconds)
        self.timeouts.append(asyncio.timeout(None))
        return self.timeouts[-1]

    async def run_out(self, hang: Hang, call: Awaitable[object]) -> None:
        """Make a call, and let its time be over once it hangs."""
        task = asyncio.ensure_future(call)
        await hang.called.wait()
        self.timeouts[-1].reschedule(asyncio.get_running_loop().time())
        await task


class Hanging(ForwardingBlobService):
    """Hangs in what is written about it."""

    def __init__(self) -> None:
        super().__init__(MemoryBlobService())
        self.hang = Hang()

    async def has(self, digest: B3Digest) -> bool:
        await self.hang()
        raise AssertionError

    async def open_read(self, digest: B3Digest) -> BlobReader:
        return _HangingReader(self.hang)

    async def open_write(self) -> BlobWriter:
        await self.hang()
        raise AssertionError

    async def sync(self) -> None:
        await self.hang()

    async def _list(self) -> AsyncIterator[B3Digest]:
        yield BLOB.digest
        await self.hang()

    def list(self) -> AsyncIterator[B3Digest]:
        return self._list()


class _HangingReader(BytesReader):
    def __init__(self, hang: Hang) -> None:
        super().__init__(b"first")
        self.hang = hang

    async def read(self, max_bytes: int = 5) -> bytes:
        return await super().read(max_bytes) or await self._wait()

    async def _wait(self) -> bytes:
        await self.hang()
        return b""


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def inner() -> Hanging:
    return Hanging()


@pytest.fixture
def service(times: Times, inner: Hanging) -> AroundBlobService:
    return AroundBlobService(inner, Timeout("far", read_s=1, write_s=2, upkeep_s=0.5, timeout=times))


Method = Callable[[AroundBlobService], Awaitable[object]]

CALLS: dict[str, tuple[Method, str]] = {
    "has": (lambda service: service.has(BLOB.digest), "has took longer than 1 s"),
    "open_write": (lambda service: service.open_write(), "open_write took longer than 2 s"),
    "sync": (lambda service: service.sync(), "sync took longer than 0.5 s"),
}


@pytest.mark.parametrize("method", CALLS)
async def test_a_call_that_hangs_is_given_up(
    times: Times, inner: Hanging, service: AroundBlobService, method: str
) -> None:
    call, message = CALLS[method]
    with pytest.raises(Unavailable, match=f"^far: {message}$"):
        await times.run_out(inner.hang, call(service))
    assert inner.hang.cancelled


async def test_each_piece_has_the_time(times: Times, inner: Hanging, service: AroundBlobService) -> None:
    reader = await service.open_read(BLOB.digest)
    assert reader is not None
    assert await reader.read() == b"first"
    with pytest.raises(Unavailable, match=r"reader\.read took longer than 1 s"):
        await times.run_out(inner.hang, reader.read())
    assert times.seconds == [1, 1, 1]


async def test_each_item_has_the_time(times: Times, inner: Hanging, service: AroundBlobService) -> None:
    items = service.list()
    assert await anext(items) == BLOB.digest
    with pytest.raises(Unavailable, match=r"list took longer than 0\.5 s"):
        await times.run_out(inner.hang, anext(items))
    assert inner.hang.cancelled
    assert times.seconds == [0.5, 0.5]


async def test_each_directory_of_a_tree_has_the_time(times: Times) -> None:
    hang = Hang()

    class HangingDirectories(ForwardingDirectoryService):
        async def _tree(self) -> AsyncIterator[Directory]:
            yield Directory()
            await hang()

        def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
            return self._tree()

    inner: DirectoryService = HangingDirectories(MemoryDirectoryService("inner"))
    items = AroundDirectoryService(inner, Timeout("far", read_s=1, timeout=times)).get_recursive(BLOB.digest)
    assert await anext(items) == Directory()
    with pytest.raises(Unavailable, match="get_recursive took longer than 1 s"):
        await times.run_out(hang, anext(items))


async def test_each_piece_of_a_nar_has_the_time(times: Times) -> None:
    hang = Hang()

    class Streaming(MemoryPathInfoService):
        async def open_nar(self, digest: bytes) -> NarStream | None:
            return NarStream(9, self.pieces())

        async def pieces(self) -> AsyncGenerator[bytes]:
            yield b"first"
            await hang()

    stream = await AroundPathInfoService(Streaming(), Timeout("far", read_s=1, timeout=times)).open_nar(bytes(20))
    assert stream is not None
    assert await anext(stream.pieces) == b"first"
    with pytest.raises(Unavailable, match=r"nar\.read took longer than 1 s"):
        await times.run_out(hang, anext(stream.pieces))


async def test_without_a_bound_there_is_none(times: Times) -> None:
    service = AroundBlobService(MemoryBlobService(), Timeout("far", read_s=1, timeout=times))
    await service.put_many([BLOB])
    assert [digest async for digest in service.list()] == [BLOB.digest]
    assert times.seconds == []


@pytest.mark.parametrize("error", [TimeoutError("of the service itself"), StoreError("something")])
async def test_errors_of_the_service_are_its_own(times: Times, error: Exception) -> None:
    class Failing(MemoryBlobService):
        async def has(self, digest: B3Digest) -> bool:
            raise error

    service = AroundBlobService(Failing(), Timeout("far", read_s=1, timeout=times))
    with pytest.raises(type(error), match=str(error)):
        await service.has(BLOB.digest)


async def test_who_is_cancelled_is_not_told_of_time(times: Times, inner: Hanging, service: AroundBlobService) -> None:
    task = asyncio.create_task(service.has(BLOB.digest))
    await inner.hang.called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
