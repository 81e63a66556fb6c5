"""Who shares a call with whom: each row of the table in the README."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest

from fakes.recorder import Recorder
from tvix_store.around import AroundBlobService, AroundDirectoryService, AroundPathInfoService, Call
from tvix_store.blob import BlobService
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, LimitExceeded, Unavailable
from tvix_store.testing.directory_uploads import leaf, upload
from tvix_store.testing.path_info_suite import path_info
from tvix_store_guard.singleflight import (
    SingleflightBlobService,
    SingleflightDirectoryService,
    SingleflightPathInfoService,
)
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

T = TypeVar("T")
BLOBS = [HashedBlob(b"blob %d" % number) for number in range(6)]
DIGESTS = [blob.digest for blob in BLOBS]
DATAS = [blob.data for blob in BLOBS]


class Gate(Recorder):
    """Lets calls that read wait until it is opened.

    Attributes:
        n_cancelled: How many were cancelled meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_open = asyncio.Event()
        self.n_cancelled = 0

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        async def wait() -> T:
            if call.method.startswith(("has", "get", "chunks")):
                try:
                    await self.is_open.wait()
                except asyncio.CancelledError:
                    self.n_cancelled += 1
                    raise
            return await operation()

        return await super().call(call, wait)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def memory() -> MemoryBlobService:
    memory = MemoryBlobService()
    await memory.put_many(BLOBS)
    return memory


@pytest.fixture
def service(memory: MemoryBlobService, gate: Gate) -> SingleflightBlobService:
    return SingleflightBlobService(AroundBlobService(memory, gate))


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def begun(*calls: Awaitable[T]) -> list[asyncio.Future[T]]:
    tasks: list[asyncio.Future[T]] = []
    for call in calls:  # in this order
        tasks.append(asyncio.ensure_future(call))
        await turns()
    return tasks


async def test_who_asks_for_the_same_shares_a_call(service: SingleflightBlobService, gate: Gate) -> None:
    tasks = await begun(*(service.has(DIGESTS[0]) for _ in range(5)))
    gate.is_open.set()
    assert await asyncio.gather(*tasks) == [True] * 5
    assert gate.calls == [("has", 1)]
    await service.has(DIGESTS[0])
    assert gate.calls == [("has", 1)] * 2  # nothing is remembered


async def test_a_batch_asks_for_what_nobody_asks_for(service: SingleflightBlobService, gate: Gate) -> None:
    tasks = await begun(
        service.get_many(DIGESTS[:3]),
        service.get_many([DIGESTS[4], *DIGESTS[1:4], DIGESTS[4]]),
        service.get_many(DIGESTS[2:4]),
    )
    gate.is_open.set()
    assert [list(found) for found in await asyncio.gather(*tasks)] == [
        DATAS[:3],
        [DATAS[4], *DATAS[1:4], DATAS[4]],
        DATAS[2:4],
    ]
    assert gate.calls == [("get_many", 3), ("get_many", 2)]


async def test_single_lookups_share_with_batches(service: SingleflightBlobService, gate: Gate) -> None:
    first = await begun(service.has(DIGESTS[0]))
    second = await begun(service.has_many([*DIGESTS[:2], B3Digest(bytes(32))]))
    third = await begun(service.has(DIGESTS[1]))
    gate.is_open.set()
    assert await first[0] is True
    assert list(await second[0]) == [True, True, False]
    assert await third[0] is True
    assert gate.calls == [("has", 1), ("has_many", 2)]


async def test_only_equal_limits_are_shared(service: SingleflightBlobService, gate: Gate) -> None:
    tasks = await begun(service.get_many(DIGESTS[:1]), service.get_many(DIGESTS[:1], max_blob_bytes=3))
    gate.is_open.set()
    assert list(await tasks[0]) == DATAS[:1]
    with pytest.raises(LimitExceeded):
        await tasks[1]


async def test_chunks_are_shared_and_streams_are_not(service: SingleflightBlobService, gate: Gate) -> None:
    tasks = await begun(*(service.chunks(DIGESTS[0]) for _ in range(3)))
    gate.is_open.set()
    assert await asyncio.gather(*tasks) == [[]] * 3
    for _ in range(2):
        assert await service.open_read(DIGESTS[0]) is not None
    assert gate.methods == ["chunks", "open_read", "open_read"]


async def test_who_is_cancelled_leaves_the_call_to_others(service: SingleflightBlobService, gate: Gate) -> None:
    tasks = await begun(*(service.get_many(DIGESTS) for _ in range(3)))
    tasks[0].cancel()
    tasks[2].cancel()
    await turns()
    gate.is_open.set()
    assert list(await tasks[1]) == DATAS
    assert (len(gate.calls), gate.n_cancelled) == (1, 0)


async def test_a_call_that_nobody_waits_for_ends(service: SingleflightBlobService, gate: Gate) -> None:
    tasks = await begun(*(service.get_many(DIGESTS) for _ in range(3)))
    for task in tasks:
        task.cancel()
    await turns()
    assert gate.n_cancelled == 1
    gate.is_open.set()
    assert list(await service.get_many(DIGESTS)) == DATAS


async def test_a_failure_is_shared(service: SingleflightBlobService, gate: Gate, memory: MemoryBlobService) -> None:
    async def fail(digests: Sequence[B3Digest]) -> Sequence[bool]:
        raise Unavailable("the line is cut")

    memory.has_many = fail  # type: ignore[method-assign]
    tasks = await begun(service.has_many(DIGESTS[:3]), service.has_many(DIGESTS[2:4]), service.has_many(DIGESTS[:1]))
    gate.is_open.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(answer) for answer in found] == ["the line is cut"] * 3
    assert gate.calls == [("has_many", 3), ("has_many", 1)]


@pytest.mark.parametrize("is_named", [False, True])
async def test_what_is_wrong_with_another_object_is_not_shared(is_named: bool) -> None:
    class Damaged(MemoryBlobService):
        async def get_many(self, digests: Sequence[B3Digest], *, max_blob_bytes: int = 0) -> Sequence[bytes | None]:
            if DIGESTS[0] in digests:
                raise CorruptObject("rotten", expected=str(DIGESTS[0]) if is_named else None)
            return await super().get_many(digests)

    memory, gate = Damaged(), Gate()
    await memory.put_many(BLOBS)
    service = SingleflightBlobService(AroundBlobService(memory, gate))
    tasks = await begun(
        service.get_many(DIGESTS[:3]), service.get_many(DIGESTS[1:4]), service.get_many([DIGESTS[0], DIGESTS[5]])
    )
    gate.is_open.set()
    with pytest.raises(CorruptObject):
        await tasks[0]
    assert list(await tasks[1]) == DATAS[1:4]
    with pytest.raises(CorruptObject):
        await tasks[2]
    asked_again = [("get_many", 2)] if is_named else [("get_many", 2), ("get_many", 1)]
    assert gate.calls == [("get_many", 3), ("get_many", 1), ("get_many", 1), *asked_again]


Change = Callable[[BlobService], Awaitable[object]]


async def _write(service: BlobService) -> None:
    async with await service.open_write() as writer:
        await writer.write(b"x")
        await writer.close()


CHANGES: dict[str, Change] = {
    "put_many": lambda service: service.put_many(BLOBS[:1]),
    "close of a writer": _write,
    "delete": lambda service: service.delete(DIGESTS),
    "discard_corrupt": lambda service: service.discard_corrupt(DIGESTS[0]),
}


@pytest.mark.parametrize("is_failing", [False, True])
@pytest.mark.parametrize("change", CHANGES)
async def test_what_was_asked_before_a_change_is_not_shared_after(
    service: SingleflightBlobService, gate: Gate, change: str, is_failing: bool
) -> None:
    def lookups() -> list[Awaitable[object]]:
        return [service.has(DIGESTS[0]), service.chunks(DIGESTS[0]), service.get_many(DIGESTS[:1])]

    before = await begun(*lookups())
    if is_failing:
        gate.failure, gate.failing = Unavailable("the line is cut"), ["put_many", "writer.close", "delete"]
    with contextlib.suppress(Unavailable):
        await CHANGES[change](service)
    n_asked = len(gate.calls)
    after = await begun(*lookups())
    assert gate.methods[n_asked:] == ["has", "chunks", "get_many"]
    gate.is_open.set()
    await asyncio.gather(*before, *after)


async def test_a_put_that_returned_is_seen(gate: Gate) -> None:
    new = HashedBlob(b"new")
    memory = MemoryBlobService()

    class Early(Gate):
        """Looks first, and answers later."""

        async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
            answer = await operation()
            if call.method == "has" and not self.calls:
                self.calls.append(("has", 1))
                await self.is_open.wait()
            return answer

    early = Early()
    service = SingleflightBlobService(AroundBlobService(memory, early))
    before = await begun(service.has(new.digest))
    await service.put_many([new])
    assert await service.has(new.digest) is True
    early.is_open.set()
    assert await before[0] is False


async def test_closing_ends_what_is_under_way(service: SingleflightBlobService, gate: Gate) -> None:
    tasks = await begun(service.has(DIGESTS[0]), service.chunks(DIGESTS[0]))
    await service.aclose()
    for task in tasks:
        with pytest.raises(Unavailable):
            await task
    assert gate.n_cancelled == 2


async def test_directories_are_shared(gate: Gate) -> None:
    directories = [leaf(number) for number in range(4)]
    digests = [directory.digest for directory in directories]
    memory = MemoryDirectoryService("inner")
    await memory.put_many(directories)
    service = SingleflightDirectoryService(AroundDirectoryService(memory, gate))
    one = await begun(service.get(digests[0]), service.get(digests[0]))
    many = await begun(service.get_many(digests[:2]), service.get_many(digests))
    gate.is_open.set()
    assert await asyncio.gather(*one) == directories[:1] * 2
    assert [list(found) for found in await asyncio.gather(*many)] == [directories[:2], directories]
    assert gate.calls == [("get", 1), ("get_many", 1), ("get_many", 2)]


async def test_an_upload_that_was_closed_is_seen(gate: Gate) -> None:
    service = SingleflightDirectoryService(AroundDirectoryService(MemoryDirectoryService("inner"), gate))
    before = await begun(service.get(leaf(1).digest))
    await upload(service, leaf(1))
    gate.is_open.set()
    assert await service.get(leaf(1).digest) == leaf(1)
    assert gate.methods.count("get") == 2
    await before[0]


async def test_path_infos_are_shared(gate: Gate) -> None:
    path_infos = [path_info(number) for number in range(4)]
    digests = [path_info.store_path.digest for path_info in path_infos]
    memory = MemoryPathInfoService("inner")
    await memory.put_many(path_infos)
    service = SingleflightPathInfoService(AroundPathInfoService(memory, gate))
    one = await begun(service.get(digests[0]), service.get(digests[0]))
    metadata = await begun(service.get_metadata(digests[0]), service.get_metadata(digests[0]))
    many = await begun(service.get_many(digests))
    gate.is_open.set()
    assert await asyncio.gather(*one) == path_infos[:1] * 2
    assert await asyncio.gather(*metadata) == path_infos[:1] * 2
    assert list(await many[0]) == path_infos
    assert gate.calls == [("get", 1), ("get_metadata", 1), ("get_many", 3)]
    await service.put(path_infos[0])
    await service.open_nar(digests[0])
    assert gate.methods[-2:] == ["put", "open_nar"]
