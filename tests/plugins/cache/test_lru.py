"""What stays in memory, and what is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import StoreError
from tvix_store.limits import KIB, MIB
from tvix_store.testing.blob_access import read_blob, write_blob
from tvix_store.testing.directory_uploads import leaf
from tvix_store.testing.fixtures import contents
from tvix_store.testing.path_info_suite import path_info
from tvix_store_cache.lru import ENTRY_BYTES, Lru
from tvix_store_cache.lru_blob import LruBlobService
from tvix_store_cache.lru_directory import LruDirectoryService
from tvix_store_cache.lru_path_info import LruPathInfoService

pytestmark = pytest.mark.anyio

ROOM = 10 * (1000 + ENTRY_BYTES)


def blobs(count: int) -> list[HashedBlob]:
    return [HashedBlob(contents(1000, seed)) for seed in range(count)]


async def held(service: LruBlobService) -> set[B3Digest]:
    return {digest async for digest in service.list()}


async def test_what_was_put_first_is_forgotten_first() -> None:
    service, given = LruBlobService(Lru(ROOM)), blobs(12)
    await service.put_many(given)
    assert await held(service) == {blob.digest for blob in given[2:]}
    assert service.lru.held_bytes == ROOM


async def test_the_number_of_objects_is_bounded_too() -> None:
    service, given = LruBlobService(Lru(ROOM, 3)), blobs(5)
    await service.put_many(given)
    assert await held(service) == {blob.digest for blob in given[2:]}


@pytest.mark.parametrize("use", ["get_many", "open_read", "has", "has_many", "put_many", "write"])
async def test_what_is_used_stays(use: str) -> None:
    service, given = LruBlobService(Lru(ROOM, 3)), blobs(4)
    await service.put_many(given[:3])
    first = given[0]
    match use:
        case "get_many" | "has_many":
            await getattr(service, use)([first.digest])
        case "put_many":
            await service.put_many([first])
        case "write":
            await write_blob(service, first.data)
        case _:
            await getattr(service, use)(first.digest)
    await service.put_many(given[3:])
    assert await held(service) == {given[0].digest, given[2].digest, given[3].digest}


async def test_to_list_is_no_use() -> None:
    service, given = LruBlobService(Lru(ROOM, 2)), blobs(3)
    await service.put_many(given[:2])
    await held(service)
    await service.discard_corrupt(given[0].digest)
    await service.put_many(given[2:])
    assert given[0].digest not in await held(service)


@pytest.mark.parametrize("batch", [False, True])
async def test_a_blob_that_is_too_long_is_taken_and_not_held(batch: bool) -> None:
    service, small = LruBlobService(Lru(1 * MIB)), HashedBlob(contents(10))
    await service.put_many([small])
    data = contents(256 * KIB + 1)
    if batch:
        await service.put_many([HashedBlob(data)])
    else:
        assert await write_blob(service, data[:1000], data[1000:]) == B3Digest.of(data)
    assert await held(service) == {small.digest}


async def test_a_blob_on_its_way_takes_room_and_gives_it_back() -> None:
    service = LruBlobService(Lru(1 * MIB))
    async with await service.open_write() as writer:
        await writer.write(contents(200 * KIB))
        assert service.lru.held_bytes == 200 * KIB
        await writer.write(contents(100 * KIB))  # too long now
        assert service.lru.held_bytes == 0
    async with await service.open_write() as writer:
        await writer.write(contents(200 * KIB))
    assert service.lru.held_bytes == 0


async def test_many_blobs_on_their_way_stay_within_the_bound() -> None:
    service = LruBlobService(Lru(1 * MIB))
    datas = [contents(200 * KIB, seed) for seed in range(20)]
    writers = [await service.open_write() for _ in datas]
    for writer, data in zip(writers, datas, strict=True):
        await writer.write(data)
        assert service.lru.held_bytes <= 1 * MIB
    for writer, data in zip(writers, datas, strict=True):
        assert await writer.close() == B3Digest.of(data)
        assert service.lru.held_bytes <= 1 * MIB
        await writer.aclose()
    assert len(await held(service)) == 5
    for data in datas:
        assert await read_blob(service, B3Digest.of(data)) in (None, data)


async def test_an_interrupted_upload_is_over() -> None:
    service = LruBlobService(Lru(64 * MIB))
    async with await service.open_write() as writer:
        task = asyncio.create_task(writer.write(bytes(8 * MIB)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        with pytest.raises(StoreError):
            await writer.close()
    assert await held(service) == set()


async def test_statistics_tell_of_the_bound() -> None:
    service = LruBlobService(Lru(1 * MIB))
    await service.put_many(blobs(2))
    stats = await service.stats()
    assert (stats.objects, stats.logical_bytes) == (2, 2000)
    assert dict(stats.details) == {"held bytes": 2000 + 2 * ENTRY_BYTES, "max bytes": 1 * MIB}


async def test_directories_are_forgotten_too() -> None:
    service = LruDirectoryService("lru", Lru(MIB, 2))
    await service.put_many([leaf(1), leaf(2)])
    await service.get(leaf(1).digest)
    await service.put(leaf(3))
    numbers = (1, 2, 3)
    assert await service.get_many([leaf(number).digest for number in numbers]) == [leaf(1), None, leaf(3)]


async def test_path_infos_are_forgotten_too() -> None:
    service = LruPathInfoService("lru", Lru(MIB, 2))
    await service.put_many([path_info(1), path_info(2)])
    await service.get(path_info(1).store_path.digest)
    await service.put(path_info(3))
    assert {info async for info in service.list()} == {path_info(1), path_info(3)}


async def test_what_is_deleted_or_replaced_gives_its_room_back() -> None:
    service = LruPathInfoService("lru", Lru(MIB))
    await service.put(path_info(1))
    held_bytes = service.lru.held_bytes
    await service.put(path_info(1))
    assert service.lru.held_bytes == held_bytes
    await service.delete([path_info(1).store_path.digest])
    assert service.lru.held_bytes == 0
