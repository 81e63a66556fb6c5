"""Streams through the cache of blobs: when near is filled, and what a seek fetches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fakes.recorder import Recorder
from plugins.cache.sides import BlobSide, BlobSides
from tvix_store.blob import BlobReader, BlobService, BytesReader
from tvix_store.checked import CheckedBlobService
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, DanglingReference, OutOfSpace, Unavailable
from tvix_store.limits import KIB, MIB, PIECE_BYTES
from tvix_store.testing.blob_access import assert_reads, brief, read_blob, read_rest, write_blob
from tvix_store.testing.fixtures import contents
from tvix_store_cache.lru import Lru
from tvix_store_cache.lru_blob import LruBlobService
from tvix_store_cache.sides import CachePolicy
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database

pytestmark = pytest.mark.anyio

DATA = contents(3 * MIB + 5)
DIGEST = B3Digest.of(DATA)


@pytest.fixture
async def sides() -> BlobSides:
    """Both in memory; ``DATA`` is far, in one piece."""
    sides = BlobSides()
    await write_blob(sides.far.store, DATA)
    return sides


async def opened(service: BlobService, digest: B3Digest = DIGEST) -> BlobReader:
    reader = await service.open_read(digest)
    assert reader is not None
    return reader


async def test_what_was_read_to_its_end_is_near(sides: BlobSides) -> None:
    cache = sides.cache()
    await assert_reads(cache, DIGEST, DATA)
    assert sides.near.memory.contents == {DIGEST.raw: DATA}
    sides.far.asked.failure = Unavailable("far is gone")
    assert await cache.has(DIGEST) is True
    await assert_reads(cache, DIGEST, DATA)


@pytest.mark.parametrize("size", [1, 1000, PIECE_BYTES, 2 * MIB])
async def test_pieces_are_never_longer_than_asked(sides: BlobSides, size: int) -> None:
    data = DATA[: 40 * size]
    digest = await write_blob(sides.far.store, data)
    await assert_reads(sides.cache(), digest, data, size)
    assert digest.raw in sides.near.memory.contents


async def test_near_is_filled_when_the_last_byte_is_given(sides: BlobSides) -> None:
    """Whoever knows the size may never ask for what follows."""
    async with await opened(sides.cache()) as reader:
        left = len(DATA)
        while left:
            assert DIGEST.raw not in sides.near.memory.contents or left <= PIECE_BYTES
            left -= len(await reader.read())
        assert DIGEST.raw in sides.near.memory.contents


async def test_what_was_not_read_to_its_end_is_not_near(sides: BlobSides) -> None:
    async with await opened(sides.cache()) as reader:
        await reader.read()
    assert sides.near.memory.contents == {}


async def test_a_reader_that_was_never_read_writes_nothing(sides: BlobSides) -> None:
    async with await opened(sides.cache()):
        pass
    assert "open_write" not in sides.near.asked.methods


async def test_a_seek_to_where_it_is_changes_nothing(sides: BlobSides) -> None:
    async with await opened(sides.cache()) as reader:
        await reader.seek(0)
        first = await reader.read(100)
        await reader.seek(100)
        assert brief(first + await read_rest(reader)) == brief(DATA)
    assert DIGEST.raw in sides.near.memory.contents


@pytest.mark.parametrize("start", [0, 1000])
async def test_a_seek_elsewhere_ends_the_filling(sides: BlobSides, start: int) -> None:
    async with await opened(sides.cache()) as reader:
        if start:
            await reader.read(start)
        await reader.seek(5)
        assert brief(await read_rest(reader)) == brief(DATA[5:])
        await reader.seek(0)
        assert brief(await read_rest(reader)) == brief(DATA)
        await reader.seek(len(DATA) + 1)
        assert await reader.read() == b""
    assert sides.near.memory.contents == {}


async def test_seeks_without_reads_between_them_are_one(sides: BlobSides) -> None:
    async with await opened(sides.cache()) as reader:
        await reader.seek(10)
        await reader.seek(20)
        assert await reader.read(3) == DATA[20:23]


async def test_two_streams_of_one_blob_do_not_mix(sides: BlobSides) -> None:
    cache = sides.cache()
    async with await opened(cache) as one, await opened(cache) as other:
        first = await one.read(70_000)
        assert brief(await read_rest(other)) == brief(DATA)
        assert brief(first + await read_rest(one)) == brief(DATA)
    assert sides.near.memory.contents == {DIGEST.raw: DATA}


async def test_a_stream_that_is_closed_leaves_the_other_alone(sides: BlobSides) -> None:
    cache = sides.cache()
    async with await opened(cache) as one:
        async with await opened(cache) as other:
            await other.read()
        assert brief(await read_rest(one)) == brief(DATA)
    assert DIGEST.raw in sides.near.memory.contents


@pytest.mark.parametrize("failing", ["open_write", "writer.write", "writer.close"])
async def test_near_may_fail_while_it_is_filled(sides: BlobSides, failing: str) -> None:
    sides.near.asked.failure, sides.near.asked.failing = OutOfSpace("full"), [failing]
    with pytest.raises(OutOfSpace):
        await read_blob(sides.cache(), DIGEST)
    await assert_reads(sides.cache(CachePolicy(skip_near_errors=True)), DIGEST, DATA)
    assert sides.near.memory.contents == {}


async def test_what_is_corrupt_far_is_not_near_and_has_no_end(sides: BlobSides) -> None:
    sides.far.memory.contents[DIGEST.raw] = DATA[:-1] + b"?"
    with pytest.raises(CorruptObject):
        await read_blob(sides.cache(), DIGEST)
    assert sides.near.memory.contents == {}


async def test_far_without_checks_is_checked_before_the_last_piece(sides: BlobSides) -> None:
    class Wrong(MemoryBlobService):
        async def open_read(self, digest: B3Digest) -> BlobReader | None:
            return BytesReader(b"something else")

    sides.far = BlobSide()
    cache = sides.cache()
    cache.far = Wrong()
    async with await opened(cache) as reader:
        with pytest.raises(CorruptObject, match="came from far as"):
            await reader.read()
    assert DIGEST.raw not in sides.near.memory.contents


async def test_far_may_fail_on_the_way(sides: BlobSides) -> None:
    async with await opened(sides.cache()) as reader:
        await reader.read()
        sides.far.asked.failure = Unavailable("far is gone")
        with pytest.raises(Unavailable, match="far is gone"):
            await read_rest(reader)
    assert sides.near.memory.contents == {}


async def test_a_cancelled_read_loses_nothing_but_the_filling(sides: BlobSides) -> None:
    cache = sides.cache()
    hanging = asyncio.Event()

    class Hanging(MemoryBlobService):
        async def open_write(self):  # type: ignore[no-untyped-def]
            hanging.set()
            await asyncio.Event().wait()

    cache.near = Hanging()
    async with await opened(cache) as reader:
        reading = asyncio.create_task(reader.read())
        await hanging.wait()
        reading.cancel()
        await asyncio.wait([reading])
        assert brief(await read_rest(reader)) == brief(DATA)
    assert cache.near.contents == {}


# Near fails while it is read


@pytest.mark.parametrize("position", [0, 100])
async def test_far_takes_over_before_anything_was_given(sides: BlobSides, position: int) -> None:
    await write_blob(sides.near.store, DATA)
    sides.near.asked.failure, sides.near.asked.failing = Unavailable("not now"), ["reader.read"]
    async with await opened(sides.cache(CachePolicy(skip_near_errors=True))) as reader:
        await reader.seek(position)
        assert brief(await read_rest(reader)) == brief(DATA[position:])
    async with await opened(sides.cache()) as reader:
        with pytest.raises(Unavailable):
            await reader.read()


async def test_after_far_took_over_its_error_is_an_error(sides: BlobSides) -> None:
    await write_blob(sides.near.store, DATA)
    sides.near.asked.failure, sides.near.asked.failing = Unavailable("near is gone"), ["reader.read"]
    sides.far.asked.failure, sides.far.asked.failing = Unavailable("far is gone"), ["reader.read"]
    async with await opened(sides.cache(CachePolicy(skip_near_errors=True))) as reader:
        for _ in range(2):
            with pytest.raises(Unavailable, match="far is gone"):
                await reader.read()
    assert sides.far.asked.methods.count("open_read") == 1


async def test_after_something_was_given_near_s_error_is_an_error(sides: BlobSides) -> None:
    await write_blob(sides.near.store, DATA)
    async with await opened(sides.cache(CachePolicy(skip_near_errors=True))) as reader:
        await reader.read(10)
        sides.near.asked.failure, sides.near.asked.failing = Unavailable("not now"), ["reader.read"]
        with pytest.raises(Unavailable):
            await reader.read(10)


async def test_damage_that_shows_late_is_an_error_once_and_healed_by_the_next_read(sides: BlobSides) -> None:
    sides.near.memory.contents[DIGEST.raw] = DATA[:-1] + b"?"
    cache = sides.cache()
    with pytest.raises(CorruptObject):
        await read_blob(cache, DIGEST)
    await assert_reads(cache, DIGEST, DATA)
    assert sides.near.memory.contents == {DIGEST.raw: DATA}


async def test_an_error_of_near_that_far_cannot_help_with_is_raised(sides: BlobSides) -> None:
    digest = await write_blob(sides.near.store, b"near alone")
    sides.near.asked.failure, sides.near.asked.failing = Unavailable("not now"), ["reader.read"]
    async with await opened(sides.cache(CachePolicy(skip_near_errors=True)), digest) as reader:
        with pytest.raises(Unavailable, match="not now"):
            await reader.read()


# Chunks


@pytest.fixture
async def chunked() -> AsyncIterator[BlobSides]:
    """Far has ``DATA`` in chunks."""
    async with await Database.open(None) as database:
        sides = BlobSides(far=BlobSide(SqliteBlobService("far", database)))
        await write_blob(sides.far.store, DATA)
        yield sides


async def test_a_seek_fetches_only_the_chunks_that_are_touched(chunked: BlobSides) -> None:
    async with await opened(chunked.cache()) as reader:
        await reader.seek(2 * MIB)
        assert await reader.read(10) == DATA[2 * MIB : 2 * MIB + 10]
    chunks = await chunked.far.store.chunks(DIGEST)
    assert chunks is not None
    (held,) = chunked.near.memory.contents
    assert held in {chunk.digest.raw for chunk in chunks}
    assert chunked.far.asked.calls == [("open_read", 1), ("chunks", 1), ("get_many", 1)]


async def test_chunks_that_are_near_are_not_fetched_again(chunked: BlobSides) -> None:
    cache = chunked.cache()
    for _ in range(2):
        async with await opened(cache) as reader:
            await reader.seek(1 * MIB)
            assert await reader.read(10) == DATA[1 * MIB : 1 * MIB + 10]
    assert chunked.far.asked.methods.count("get_many") == 1


async def test_a_blob_read_by_chunks_comes_whole_and_in_order(chunked: BlobSides) -> None:
    async with await opened(chunked.cache()) as reader:
        for position in (5, 3 * MIB, 0, 70_000):
            await reader.seek(position)
            assert brief(await read_rest(reader)) == brief(DATA[position:])
    assert await chunked.cache().has(DIGEST) is True
    assert DIGEST.raw not in chunked.near.memory.contents  # its chunks are


async def test_combined_reads_chunks_that_are_near_from_there(chunked: BlobSides) -> None:
    chunks = await chunked.far.store.chunks(DIGEST) or []
    await write_blob(chunked.near.store, DATA[: chunks[0].size])
    async with await opened(chunked.cache(CachePolicy(fills=False))) as reader:
        await reader.seek(1)
        assert await reader.read(10) == DATA[1:11]
    assert "get_many" not in chunked.far.asked.methods
    assert list(chunked.near.memory.contents) == [chunks[0].digest.raw]


async def test_a_chunk_that_is_gone_is_a_dangling_reference(chunked: BlobSides) -> None:
    cache = chunked.cache()
    async with await opened(cache) as reader:
        await reader.seek(1 * MIB)
        await reader.read(10)
        cache.far = MemoryBlobService()
        await reader.seek(10)
        with pytest.raises(DanglingReference):
            await reader.read(10)


# Memory


async def test_a_blob_too_long_for_memory_passes_through_it(sides: BlobSides) -> None:
    lru = Lru(1 * MIB)
    most = 0

    cache = sides.cache()
    cache.near = CheckedBlobService("near", LruBlobService(lru))
    async with await opened(cache) as reader:
        n_bytes = 0
        while piece := await reader.read():
            n_bytes += len(piece)
            most = max(most, lru.held_bytes)
    assert n_bytes == len(DATA)
    assert most <= 1 * MIB
    assert lru.held_bytes == 0
    short = await write_blob(sides.far.store, DATA[: 200 * KIB])
    await read_blob(cache, short)
    assert [digest async for digest in cache.list()] == [short]


async def test_a_seek_gives_the_room_of_the_filling_back(sides: BlobSides) -> None:
    lru = Lru(64 * MIB)
    cache = sides.cache()
    cache.near = CheckedBlobService("near", LruBlobService(lru))
    async with await opened(cache) as reader:
        await reader.read()
        assert lru.held_bytes > 0
        await reader.seek(5)
        await reader.read()
        assert lru.held_bytes == 0


async def test_memory_over_disk_over_far() -> None:
    far, disk, memory = Recorder(), Recorder(), Recorder()
    sides = BlobSides(BlobSide(asked=disk), BlobSide(asked=far))
    outer = BlobSides(BlobSide(LruBlobService(Lru(64 * MIB)), memory), BlobSide(sides.cache()))
    await write_blob(sides.far.store, DATA)
    cache = outer.cache()
    await assert_reads(cache, DIGEST, DATA)
    assert [await store.has(DIGEST) for store in (outer.near.store, sides.near.store)] == [True, True]
    disk.calls.clear()
    far.calls.clear()
    await assert_reads(cache, DIGEST, DATA)
    assert disk.calls == far.calls == []
