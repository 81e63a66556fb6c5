"""What every blob service promises of readers and writers; part of the blob suite."""

from __future__ import annotations

import asyncio

import pytest

from tvix_store.blob import BlobService
from tvix_store.digest import EMPTY_DIGEST, B3Digest, HashedBlob
from tvix_store.limits import KIB, MIB
from tvix_store.testing.blob_access import (
    BlobSuiteBase,
    assert_absent,
    assert_gets,
    assert_reads,
    brief,
    read_blob,
    read_rest,
    write_blob,
)
from tvix_store.testing.cancelling import cancel_at_once, cancel_when
from tvix_store.testing.fixtures import GOLDEN_BLOBS, HELLOWORLD_BLOB, GoldenBlob, contents

__all__ = ["LARGE_BYTES", "BlobStreamTests"]

large = pytest.mark.tvix_store_large

LARGE_BYTES = 5 * MIB
_EDGES = [n + around for n in (64 * KIB, 256 * KIB, 1 * MIB) for around in (-1, 0, 1)]
SIZES = [0, 1, 2, *_EDGES, LARGE_BYTES]


class BlobStreamTests(BlobSuiteBase):
    """Absence, writing, reading, seeking, and the ways an upload ends."""

    # Absence

    async def test_absent_blob_is_none_not_an_error(self, service: BlobService) -> None:
        await assert_absent(service, HELLOWORLD_BLOB.digest)

    async def test_absent_blob_is_none_beside_others(self, service: BlobService) -> None:
        await write_blob(service, contents(100))
        await assert_absent(service, HELLOWORLD_BLOB.digest)

    async def test_empty_blob_is_always_there(self, store: BlobService) -> None:
        assert await store.has(EMPTY_DIGEST)
        await assert_reads(store, EMPTY_DIGEST, b"")
        await assert_gets(store, [EMPTY_DIGEST], [b""])
        assert list(await store.chunks(EMPTY_DIGEST) or []) == []

    # Writing and reading

    @pytest.mark.parametrize("golden", [pytest.param(blob, id=name) for name, blob in GOLDEN_BLOBS.items()])
    async def test_digest_is_the_blake3_of_the_contents(self, service: BlobService, golden: GoldenBlob) -> None:
        assert await write_blob(service, golden.data) == golden.digest
        await assert_reads(service, golden.digest, golden.data)

    @large
    @pytest.mark.parametrize("size", SIZES)
    async def test_what_was_written_is_read(self, service: BlobService, size: int) -> None:
        data = contents(size)
        digest = await write_blob(service, data)
        assert digest == B3Digest.of(data)
        assert await service.has(digest) is True
        await assert_reads(service, digest, data)

    @pytest.mark.parametrize("size", [1, 1000, 64 * KIB, 100_001, 300_000])
    async def test_how_writes_are_cut_makes_no_difference(self, service: BlobService, size: int) -> None:
        data = contents(300_000)
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        if size == 1:  # a tail of single bytes
            pieces = [data[:-50], *(data[i : i + 1] for i in range(len(data) - 50, len(data)))]
        assert await write_blob(service, *pieces) == B3Digest.of(data)
        await assert_reads(service, B3Digest.of(data), data)

    async def test_one_write_may_be_large(self, service: BlobService) -> None:
        data = contents(2 * MIB + 3)
        assert await write_blob(service, data) == B3Digest.of(data)
        await assert_reads(service, B3Digest.of(data), data)

    async def test_empty_writes_add_nothing(self, service: BlobService) -> None:
        digest = await write_blob(service, b"", b"Hello ", b"", b"", b"World!", b"")
        assert digest == HELLOWORLD_BLOB.digest
        await assert_reads(service, digest, HELLOWORLD_BLOB.data)

    async def test_no_write_at_all_makes_the_empty_blob(self, service: BlobService) -> None:
        assert await write_blob(service) == EMPTY_DIGEST
        assert await service.has(EMPTY_DIGEST) is True
        await assert_reads(service, EMPTY_DIGEST, b"")

    async def test_writing_a_blob_again_is_harmless(self, service: BlobService) -> None:
        data = contents(400_000)
        assert await write_blob(service, data) == await write_blob(service, data[:7], data[7:])
        await assert_reads(service, B3Digest.of(data), data)

    @pytest.mark.parametrize("max_bytes", [1, 7, 4096])
    async def test_read_gives_at_most_what_was_asked_for(self, service: BlobService, max_bytes: int) -> None:
        digest = await write_blob(service, data := contents(1500))
        await assert_reads(service, digest, data, max_bytes)

    async def test_small_reads_of_a_large_blob_join_up(self, service: BlobService) -> None:
        digest = await write_blob(service, data := contents(2 * MIB + 17))
        await assert_reads(service, digest, data, 33_333)

    # Seeking

    @large
    @pytest.mark.parametrize("size", [1000, LARGE_BYTES])
    async def test_seek_goes_forwards_and_backwards(self, service: BlobService, size: int) -> None:
        digest = await write_blob(service, data := contents(size))
        reader = await service.open_read(digest)
        assert reader is not None
        async with reader:
            for position in (size // 2, 0, size - 1, size // 3, size // 3 + 1, size // 3, 1):
                await reader.seek(position)
                piece = await reader.read(100)
                assert piece
                assert piece == data[position : position + len(piece)]

    @large
    @pytest.mark.parametrize("size", [1000, LARGE_BYTES])
    async def test_reading_goes_on_to_the_end_after_a_seek(self, service: BlobService, size: int) -> None:
        digest = await write_blob(service, data := contents(size))
        reader = await service.open_read(digest)
        assert reader is not None
        async with reader:
            await reader.read(10)
            await reader.seek(size // 2 + 1)
            assert brief(await read_rest(reader)) == brief(data[size // 2 + 1 :])

    @pytest.mark.parametrize("size", [0, 10, 700_000])
    async def test_at_and_past_the_end_there_is_nothing(self, service: BlobService, size: int) -> None:
        digest = await write_blob(service, data := contents(size))
        reader = await service.open_read(digest)
        assert reader is not None
        async with reader:
            for position in (size, size + 1, size + 10 * MIB):
                await reader.seek(position)
                assert await reader.read() == b""
            await reader.seek(max(size - 3, 0))
            assert await read_rest(reader) == data[-3:]

    async def test_readers_keep_positions_of_their_own(self, service: BlobService) -> None:
        digest = await write_blob(service, data := contents(700_000))
        first, second = await service.open_read(digest), await service.open_read(digest)
        assert first is not None
        assert second is not None
        async with first, second:
            await first.seek(650_000)
            assert (await second.read(10))[:1] == data[:1]
            assert (await first.read(10))[:1] == data[650_000:650_001]

    async def test_a_reader_closed_halfway_does_no_harm(self, service: BlobService) -> None:
        digest = await write_blob(service, data := contents(700_000))
        reader = await service.open_read(digest)
        assert reader is not None
        await reader.read(10)
        await reader.aclose()
        await reader.aclose()
        await assert_reads(service, digest, data)

    # The end of an upload

    async def test_closing_a_writer_again_gives_the_same_digest(self, service: BlobService) -> None:
        async with await service.open_write() as writer:
            await writer.write(HELLOWORLD_BLOB.data)
            assert await writer.close() == HELLOWORLD_BLOB.digest
            assert await writer.close() == HELLOWORLD_BLOB.digest
        await writer.aclose()
        await assert_reads(service, HELLOWORLD_BLOB.digest, HELLOWORLD_BLOB.data)

    @pytest.mark.parametrize("size", [12, 700_000])
    async def test_nothing_is_visible_before_close(self, service: BlobService, size: int) -> None:
        data = contents(size)
        async with await service.open_write() as writer:
            await writer.write(data)
            await assert_absent(service, B3Digest.of(data))
            await writer.close()
        await assert_reads(service, B3Digest.of(data), data)

    @pytest.mark.parametrize("size", [12, 700_000])
    async def test_a_writer_that_was_not_closed_leaves_nothing(self, service: BlobService, size: int) -> None:
        data = contents(size)
        async with await service.open_write() as writer:
            await writer.write(data)
        await assert_absent(service, B3Digest.of(data))

    @pytest.mark.parametrize("size", [12, 700_000])
    async def test_a_cancelled_upload_leaves_nothing(self, service: BlobService, size: int) -> None:
        data, written = contents(size), asyncio.Event()

        async def upload() -> None:
            async with await service.open_write() as writer:
                await writer.write(data)
                written.set()
                await asyncio.Event().wait()

        await cancel_when(written, upload())
        await assert_absent(service, B3Digest.of(data))

    @pytest.mark.parametrize("steps", [0, 1, 2, 5])
    async def test_a_cancelled_close_leaves_all_or_nothing(self, service: BlobService, steps: int) -> None:
        data = contents(700_000)
        async with await service.open_write() as writer:
            await writer.write(data)
            await cancel_at_once(writer.close(), steps=steps)
        assert brief(await read_blob(service, B3Digest.of(data))) in (None, brief(data))
        await write_blob(service, data)
        await assert_reads(service, B3Digest.of(data), data)

    async def test_two_writers_do_not_mix(self, service: BlobService) -> None:
        one, two = contents(300_000, 1), contents(300_000, 2)
        async with await service.open_write() as first, await service.open_write() as second:
            for start in range(0, 300_000, 60_000):
                await first.write(one[start : start + 60_000])
                await second.write(two[start : start + 60_000])
            digests = [await second.close(), await first.close()]
        await assert_reads(service, digests[0], two)
        await assert_reads(service, digests[1], one)

    @pytest.mark.parametrize("size", [12, 700_000])
    async def test_one_blob_may_be_written_many_times_at_once(self, service: BlobService, size: int) -> None:
        data = contents(size)
        async with asyncio.TaskGroup() as group:
            for cut in range(8):
                group.create_task(write_blob(service, data[:cut], data[cut:]))
        await assert_reads(service, B3Digest.of(data), data)

    @large
    async def test_much_at_once_does_not_mix(self, service: BlobService) -> None:
        async def work(seed: int) -> None:
            data = contents(1 + seed * seed * 3, seed)
            if seed % 2:
                digest = await write_blob(service, data)
            else:
                await service.put_many([blob := HashedBlob(data)])
                digest = blob.digest
            assert await service.has(digest)
            await assert_reads(service, digest, data)
            await assert_gets(service, [HELLOWORLD_BLOB.digest, digest], [None, data])

        async with asyncio.TaskGroup() as group:
            for seed in range(200):
                group.create_task(work(seed))
