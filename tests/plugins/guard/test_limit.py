"""How many calls at once, how many a second, and which have to wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from fakes.recorder import Recorder
from plugins.guard.clock import Clock
from tvix_store.around import AroundBlobService
from tvix_store.blob import BlobService, BlobWriter
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import Unavailable
from tvix_store.forwarding import ForwardingBlobService
from tvix_store_guard.limit import Limit, TokenBucket
from tvix_store_memory.blob import MemoryBlobService

pytestmark = pytest.mark.anyio

BLOB = HashedBlob(b"blob")


class Counting(ForwardingBlobService):
    """Counts how many ask at once; they get an answer one by one."""

    def __init__(self) -> None:
        super().__init__(MemoryBlobService())
        self.n_asking = self.n_most = 0
        self.may_answer = asyncio.Semaphore(0)

    async def has(self, digest: B3Digest) -> bool:
        self.n_asking += 1
        self.n_most = max(self.n_most, self.n_asking)
        try:
            await self.may_answer.acquire()
        finally:
            self.n_asking -= 1
        return True


@contextlib.asynccontextmanager
async def asking(service: BlobService, times: int) -> AsyncIterator[list[asyncio.Task[bool]]]:
    tasks = [asyncio.create_task(service.has(BLOB.digest)) for _ in range(times)]
    for _ in range(5):
        await asyncio.sleep(0)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_only_so_many_at_once() -> None:
    inner = Counting()
    async with asking(AroundBlobService(inner, Limit("far", concurrency=3)), 10) as tasks:
        assert inner.n_asking == 3
        for _ in tasks:
            inner.may_answer.release()
        assert await asyncio.gather(*tasks) == [True] * 10
    assert inner.n_most == 3


async def test_who_is_cancelled_makes_room() -> None:
    inner = Counting()
    async with asking(AroundBlobService(inner, Limit("far", concurrency=1)), 3) as tasks:
        tasks[1].cancel()  # waits
        tasks[0].cancel()  # asks
        inner.may_answer.release()
        assert await tasks[2] is True


async def test_who_fails_makes_room() -> None:
    recorder = Recorder()
    service = AroundBlobService(AroundBlobService(MemoryBlobService(), recorder), Limit("far", concurrency=1))
    recorder.failure = Unavailable("the line is cut")
    for _ in range(2):
        with pytest.raises(Unavailable, match="the line is cut"):
            await service.has(BLOB.digest)


@pytest.mark.parametrize("queue", [0, 2])
async def test_only_so_many_wait(queue: int) -> None:
    inner = Counting()
    service = AroundBlobService(inner, Limit("far", concurrency=1, queue=queue))
    async with asking(service, 1 + queue) as tasks:
        with pytest.raises(Unavailable, match=f"^far: busy, has is not asked: {queue} calls are waiting$"):
            await service.has(BLOB.digest)
        for _ in tasks:
            inner.may_answer.release()
        assert all(await asyncio.gather(*tasks))
    inner.may_answer.release()
    assert await service.has(BLOB.digest)


async def test_what_is_open_needs_no_room() -> None:
    inner = Counting()
    service = AroundBlobService(inner, Limit("far", concurrency=1, queue=0))
    first, second = await service.open_write(), await service.open_write()
    async with asking(service, 1):
        for writer in (first, second):
            await writer.write(b"blob")
            assert await writer.close() == BLOB.digest
            await writer.aclose()


async def test_a_writer_that_waits_for_another_does_not_keep_it_waiting() -> None:
    """As two uploads over one connection do, of which the other side takes one at a time."""
    is_first_closed, is_waiting = asyncio.Event(), asyncio.Event()

    class OneByOne(ForwardingBlobService):
        async def open_write(self) -> BlobWriter:
            return _OneByOne(await super().open_write())

    class _OneByOne(BlobWriter):
        def __init__(self, inner: BlobWriter) -> None:
            self.inner = inner

        async def write(self, data: bytes) -> None:
            if data == b"second":
                is_waiting.set()
                await is_first_closed.wait()
            await self.inner.write(data)

        async def close(self) -> B3Digest:
            digest = await self.inner.close()
            is_first_closed.set()
            return digest

    service = AroundBlobService(OneByOne(MemoryBlobService()), Limit("far", concurrency=1))
    first, second = await service.open_write(), await service.open_write()
    waiting = asyncio.create_task(second.write(b"second"))
    await is_waiting.wait()
    await first.write(b"blob")
    assert await first.close() == BLOB.digest
    await waiting
    assert await second.close() == B3Digest.of(b"second")


async def test_a_list_holds_its_place_up_to_the_first_item() -> None:
    blobs = MemoryBlobService()
    await blobs.put_many([BLOB, HashedBlob(b"other")])
    service = AroundBlobService(blobs, Limit("far", concurrency=1, queue=0))
    n_found = 0
    async for digest in service.list():
        assert await service.has(digest)
        n_found += 1
    assert n_found == 2


async def test_only_so_many_a_second() -> None:
    clock = Clock()
    limit = Limit("far", rate=2, burst=3, clock=clock, sleep=clock.sleep)
    service = AroundBlobService(MemoryBlobService(), limit)
    for _ in range(6):
        await service.has(BLOB.digest)
    assert clock.pauses == [0.5, 0.5, 0.5]
    clock.now += 100
    for _ in range(4):
        await service.has(BLOB.digest)
    assert clock.pauses == [0.5] * 4


async def test_a_batch_is_one_call() -> None:
    clock = Clock()
    recorder = Recorder()
    inner = AroundBlobService(MemoryBlobService(), recorder)
    service = AroundBlobService(inner, Limit("far", concurrency=1, rate=1, clock=clock, sleep=clock.sleep))
    await service.put_many([BLOB] * 5)
    assert recorder.calls == [("put_many", 5)]
    assert clock.pauses == []


async def test_who_waits_for_a_time_is_in_the_queue() -> None:
    never = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await never.wait()

    service = AroundBlobService(MemoryBlobService(), Limit("far", rate=1, queue=1, clock=Clock(), sleep=sleep))
    await service.has(BLOB.digest)
    async with asking(service, 1):
        with pytest.raises(Unavailable, match="busy"):
            await service.has(BLOB.digest)


async def test_who_is_cancelled_leaves_the_token_to_others() -> None:
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)
        await asyncio.Event().wait()

    service = AroundBlobService(MemoryBlobService(), Limit("far", rate=1, clock=Clock(), sleep=sleep))
    await service.has(BLOB.digest)
    for _ in range(2):
        async with asking(service, 1):
            pass
    assert asked == [1, 1]


def test_tokens_come_in_the_order_of_taking() -> None:
    clock = Clock()
    bucket = TokenBucket(4, 1, clock)
    assert [bucket.take() for _ in range(4)] == [0, 0.25, 0.5, 0.75]
    bucket.give_back()
    assert bucket.is_empty
    assert bucket.take() == 0.75
    clock.now += 1
    assert not bucket.is_empty
