"""What is synced when, and how many puts share it."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from plugins.fs.fs_store import open_service, pack_sizes
from tvix_store.capabilities import Capabilities, Durability
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import OutOfSpace, Unavailable
from tvix_store.limits import KIB, MIB
from tvix_store.testing.blob_access import assert_absent, list_blobs, read_blob, verify_blobs, write_blob
from tvix_store.testing.fixtures import contents
from tvix_store_fs import appender
from tvix_store_fs.blob import FsBlobService
from tvix_store_fs.pack import WritablePack

pytestmark = pytest.mark.anyio

COMMIT, BATCHED, NONE = Durability.COMMIT, Durability.BATCHED, Durability.NONE
every_durability = pytest.mark.parametrize("durability", [COMMIT, BATCHED, NONE])


class Syncs:
    """Counts what is synced."""

    def __init__(self) -> None:
        self.count = 0
        self.before: Callable[[], None] = lambda: None
        self._real = os.fdatasync

    def __call__(self, descriptor: int) -> None:
        self.count += 1
        self.before()
        self._real(descriptor)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    syncs = Syncs()
    monkeypatch.setattr("os.fdatasync", syncs)
    return syncs


def blob(number: int, size: int = 1000) -> HashedBlob:
    return HashedBlob(contents(size, number))


@every_durability
async def test_capabilities(tmp_path: Path, durability: Durability) -> None:
    async with await open_service(tmp_path, durability=durability) as service:
        assert service.capabilities == Capabilities(
            list=True, delete=True, chunks=True, verifies=True, compact=True, durability=durability
        )


@pytest.mark.parametrize(("durability", "expected"), [(COMMIT, 5), (BATCHED, 0), (NONE, 0)])
async def test_puts_are_synced_as_was_promised(
    tmp_path: Path, syncs: Syncs, durability: Durability, expected: int
) -> None:
    async with await open_service(tmp_path, durability=durability) as service:
        for number in range(5):
            await service.put_many([blob(number)])
        assert syncs.count == expected


@pytest.mark.parametrize(("durability", "expected"), [(COMMIT, 0), (BATCHED, 1), (NONE, 0)])
async def test_sync_makes_durable_what_was_put(
    tmp_path: Path, syncs: Syncs, durability: Durability, expected: int
) -> None:
    async with await open_service(tmp_path, durability=durability) as service:
        await service.put_many([blob(1)])
        syncs.count = 0
        await service.sync()
        await service.sync()
        assert syncs.count == expected


async def test_many_puts_share_a_sync(tmp_path: Path, syncs: Syncs) -> None:
    async with await open_service(tmp_path) as service:
        await service.put_many([blob(1000)])
        syncs.count = 0
        first_is_syncing, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            first_is_syncing.set()
            assert go_on.wait(60)

        syncs.before = wait
        first = asyncio.ensure_future(service.put_many([blob(0)]))
        await asyncio.to_thread(first_is_syncing.wait)
        others = [asyncio.ensure_future(service.put_many([blob(number)])) for number in range(1, 61)]
        while len(service.store.appender._jobs) < 60:
            await service.has_many([])
        go_on.set()
        await asyncio.gather(first, *others)
        assert syncs.count == 2
        assert len(await list_blobs(service)) == 62


async def test_a_large_blob_is_synced_once(tmp_path: Path, syncs: Syncs) -> None:
    async with await open_service(tmp_path) as service:
        await write_blob(service, contents(20 * MIB))
        assert syncs.count == 1


@pytest.mark.parametrize("durability", [COMMIT, BATCHED])
async def test_what_is_not_synced_is_bounded(
    tmp_path: Path, syncs: Syncs, durability: Durability, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender, "_UNSYNCED_BYTES", 4 * MIB)
    async with await open_service(tmp_path, durability=durability) as service:
        await write_blob(service, contents(20 * MIB))
        assert 3 <= syncs.count <= 5


@every_durability
async def test_a_pack_is_synced_when_it_is_left(tmp_path: Path, syncs: Syncs, durability: Durability) -> None:
    async with await open_service(tmp_path, durability=durability) as service:
        await service.put_many([blob(1)])
    assert syncs.count == 1


@every_durability
async def test_a_put_that_returned_is_there_when_the_store_is_opened_again(
    tmp_path: Path, durability: Durability
) -> None:
    async with await open_service(tmp_path, durability=durability) as service:
        await service.put_many([blob(1)])
        digest = await write_blob(service, contents(5 * MIB))
    async with await open_service(tmp_path, durability=durability) as service:
        assert await read_blob(service, blob(1).digest) == blob(1).data
        assert await read_blob(service, digest) == contents(5 * MIB)


async def test_a_sync_that_fails_fails_the_put(tmp_path: Path, syncs: Syncs) -> None:
    async with await open_service(tmp_path) as service:
        await service.put_many([blob(1)])

        def fail() -> None:
            raise OSError(errno.EIO, "broken")

        syncs.before = fail
        with pytest.raises(Unavailable, match=r"00000001.pack: broken"):
            await service.put_many([blob(2)])
        syncs.before = lambda: None
        await assert_absent(service, blob(2).digest)
        await service.put_many([blob(2)])
        assert await read_blob(service, blob(2).digest) == blob(2).data
        assert await verify_blobs(service) == []


async def test_one_that_is_too_large_does_not_fail_the_others(
    tmp_path: Path, syncs: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = WritablePack.append

    def nearly_full(pack: WritablePack, parts: list[bytes]) -> int:
        if sum(map(len, parts)) > 50 * KIB:
            raise OutOfSpace("no room for that")
        return append(pack, parts)

    monkeypatch.setattr(WritablePack, "append", nearly_full)
    async with await open_service(tmp_path) as service:
        sizes = [1000, 100_000, 2000, 3000]
        outcomes = await asyncio.gather(
            *(service.put_many([blob(size, size)]) for size in sizes), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), OutOfSpace, type(None), type(None)]
        assert await list_blobs(service) == sorted(blob(size, size).digest for size in sizes if size != 100_000)


async def test_an_index_that_fails_leaves_no_bytes_and_no_one_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await open_service(tmp_path) as service:
        await service.put_many([blob(1)])
        before = pack_sizes(tmp_path)

        def fail(*arguments: object, **more: object) -> None:
            raise Unavailable("no index")

        def fail_to_cut(pack: WritablePack, end: int) -> None:
            raise Unavailable("no cutting either")

        with monkeypatch.context() as patched:
            patched.setattr("tvix_store_fs.index.add", fail)
            with pytest.raises(Unavailable, match="no index"):
                await service.put_many([blob(2)])
            assert pack_sizes(tmp_path) == before
            patched.setattr(WritablePack, "cut", fail_to_cut)
            with pytest.raises(Unavailable, match="no index"):
                await service.put_many([blob(2)])
        await service.put_many([blob(2)])
        assert await list_blobs(service) == sorted([blob(1).digest, blob(2).digest])
        assert await verify_blobs(service) == []


async def test_a_cancelled_put_stores_all_or_nothing(tmp_path: Path) -> None:
    async with await open_service(tmp_path) as service:
        for turns in range(12):
            batch = [blob(100 * turns + number) for number in range(20)]
            put = asyncio.ensure_future(service.put_many(batch))
            for _ in range(turns):
                await asyncio.sleep(0)
            put.cancel()
            await asyncio.wait([put])
            assert len(set(await service.has_many([one.digest for one in batch]))) == 1


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    service = await open_service(tmp_path)
    await service.put_many([blob(1)])
    await asyncio.gather(service.aclose(), service.aclose())
    await service.aclose()
    with pytest.raises(Unavailable, match="closed"):
        await service.put_many([blob(2)])
    with pytest.raises(Unavailable, match="closed"):
        await service.get_many([blob(1).digest])
    with pytest.raises(Unavailable, match="closed"):
        await write_blob(service, b"data")
    with pytest.raises(Unavailable, match="closed"):
        await service.compact()


async def test_closing_waits_for_puts_under_way(tmp_path: Path) -> None:
    service = await open_service(tmp_path)
    puts = [asyncio.ensure_future(service.put_many([blob(number)])) for number in range(20)]
    await asyncio.sleep(0)
    await service.aclose()
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    stored = [blob(number).digest for number, outcome in enumerate(outcomes) if outcome is None]
    assert all(outcome is None or isinstance(outcome, Unavailable) for outcome in outcomes)
    async with await open_service(tmp_path) as again:
        assert set(stored) <= set(await list_blobs(again))


def threads_of(service: FsBlobService) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("fs-", "sqlite-"))]


async def test_closing_ends_all_threads(tmp_path: Path) -> None:
    async with await open_service(tmp_path) as service:
        await service.put_many([HashedBlob(contents(3 * MIB))])
        assert await service.has(B3Digest.of(contents(3 * MIB)))
        assert threads_of(service)
    assert threads_of(service) == []


async def test_a_sync_that_fails_fails_the_uploads_it_was_for(tmp_path: Path, syncs: Syncs) -> None:
    """Chunks that were written before it, and not synced, may be lost."""
    data = contents(12 * MIB)
    async with await open_service(tmp_path) as service:

        def fail() -> None:
            raise OSError(errno.EIO, "broken")

        async with await service.open_write() as writer:
            await writer.write(data)
            syncs.before = fail
            with pytest.raises(Unavailable, match="broken"):
                await service.put_many([blob(1)])
            syncs.before = lambda: None
            with pytest.raises(Unavailable, match=r"write it again|broken"):  # a stage may have been its neighbour
                await writer.close()
        assert await write_blob(service, data) == B3Digest.of(data)
        await service.put_many([blob(1)])
        assert await verify_blobs(service) == []
        assert len(await list_blobs(service)) == 2


async def test_a_last_sync_that_fails_fails_the_upload(tmp_path: Path, syncs: Syncs) -> None:
    data = contents(12 * MIB)
    async with await open_service(tmp_path) as service:

        def fail() -> None:
            raise OSError(errno.EIO, "broken")

        async with await service.open_write() as writer:
            await writer.write(data)
            syncs.before = fail
            with pytest.raises(Unavailable, match="broken"):
                await writer.close()
            syncs.before = lambda: None
        await assert_absent(service, B3Digest.of(data))
        assert await write_blob(service, data) == B3Digest.of(data)
        assert await read_blob(service, B3Digest.of(data)) == data
