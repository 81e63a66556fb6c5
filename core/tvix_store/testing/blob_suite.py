"""What every blob service promises, as tests; see `BlobServiceSuite`."""

from __future__ import annotations

import contextlib

import pytest

from tvix_store.blob import BlobService
from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, LimitExceeded, Unsupported
from tvix_store.limits import BATCH_COUNT, CONCURRENCY, KIB, MIB, SMALL_BLOB_BYTES
from tvix_store.testing.blob_access import (
    assert_absent,
    assert_gets,
    assert_reads,
    brief,
    delete_blobs,
    list_blobs,
    read_blob,
    verify_blobs,
    write_blob,
)
from tvix_store.testing.blob_streams import LARGE_BYTES, BlobStreamTests
from tvix_store.testing.cancelling import cancel_at_once
from tvix_store.testing.fixtures import HELLOWORLD_BLOB, contents

__all__ = ["BlobDamageTests", "BlobPersistenceTests", "BlobServiceSuite"]

large = pytest.mark.tvix_store_large


class BlobServiceSuite(BlobStreamTests):
    """The promises of a blob service.

    Subclass it and override the ``service`` fixture::

        class TestSwiftBlobService(BlobServiceSuite):
            @pytest.fixture
            async def service(self, tmp_path):
                async with SwiftBlobService(tmp_path) as service:
                    yield service

    The service is empty at the start of each test. Services that keep what they store across a restart subclass
    `BlobPersistenceTests` as well; those that store bytes which could rot, `BlobDamageTests`.
    """

    # Batches

    async def test_empty_batches_are_fine(self, service: BlobService) -> None:
        await service.put_many([])
        assert list(await service.has_many([])) == []
        await assert_gets(service, [], [])

    async def test_put_many_is_as_good_as_writing(self, service: BlobService) -> None:
        blobs = [HashedBlob(contents(size, size)) for size in (0, 1, 2, 5000, 64 * KIB + 1)]
        await service.put_many(blobs)
        for blob in blobs:
            assert await service.has(blob.digest) is True
            await assert_reads(service, blob.digest, blob.data)

    async def test_put_many_takes_what_is_there_and_what_comes_twice(self, service: BlobService) -> None:
        known, new = HashedBlob(contents(900, 1)), HashedBlob(contents(900, 2))
        await write_blob(service, known.data)
        await service.put_many([new, known, new])
        await service.put_many([known, new])
        await assert_gets(service, [known.digest, new.digest], [known.data, new.data])

    async def test_batches_answer_in_the_order_asked(self, service: BlobService) -> None:
        blobs = [HashedBlob(contents(100 + seed, seed)) for seed in range(40)]
        await service.put_many(blobs)
        asked = [*reversed(blobs), *blobs[::3], blobs[5], blobs[5]]
        await assert_gets(service, [blob.digest for blob in asked], [blob.data for blob in asked])

    async def test_batches_answer_for_the_absent_too(self, service: BlobService) -> None:
        here, gone = HashedBlob(contents(500, 1)), HashedBlob(contents(500, 2))
        await service.put_many([here])
        asked = [gone.digest, here.digest, here.digest, gone.digest]
        assert list(await service.has_many(asked)) == [False, True, True, False]
        await assert_gets(service, asked, [None, here.data, here.data, None])

    async def test_written_blobs_are_in_batches_too(self, service: BlobService) -> None:
        datas = [contents(size, 3) for size in (0, 1, 300_000, SMALL_BLOB_BYTES)]
        digests = [await write_blob(service, data) for data in datas]
        assert list(await service.has_many(digests)) == [True] * len(digests)
        await assert_gets(service, digests, datas)

    @large
    async def test_batches_may_be_longer_than_usual(self, service: BlobService) -> None:
        blobs = [HashedBlob(b"blob %d" % number) for number in range(BATCH_COUNT + 300)]
        await service.put_many(blobs)
        asked = [blob.digest for blob in blobs] + [HELLOWORLD_BLOB.digest]
        assert list(await service.has_many(asked)) == [True] * len(blobs) + [False]
        await assert_gets(service, asked, [*(blob.data for blob in blobs), None])

    @large
    async def test_batches_may_be_full_of_bytes(self, service: BlobService) -> None:
        blobs = [HashedBlob(contents(SMALL_BLOB_BYTES, seed)) for seed in range(8)]
        await service.put_many(blobs)
        await assert_gets(service, [blob.digest for blob in blobs], [blob.data for blob in blobs])

    @pytest.mark.parametrize("max_blob_bytes", [1, 1000, 2 * MIB])
    async def test_get_many_refuses_what_is_longer_than_asked(self, service: BlobService, max_blob_bytes: int) -> None:
        fits = await write_blob(service, data := contents(max_blob_bytes, 1))
        too_long = await write_blob(service, contents(max_blob_bytes + 1, 2))
        with pytest.raises(LimitExceeded):
            await service.get_many([fits, too_long], max_blob_bytes=max_blob_bytes)
        await assert_gets(service, [fits], [data], max_blob_bytes=max_blob_bytes)

    async def test_a_cancelled_put_many_leaves_only_whole_blobs(self, service: BlobService) -> None:
        blobs = [HashedBlob(contents(20_000, seed)) for seed in range(3 * CONCURRENCY)]
        await cancel_at_once(service.put_many(blobs), steps=4)
        for blob in blobs:
            assert brief(await read_blob(service, blob.digest)) in (None, brief(blob.data))
        await service.put_many(blobs)
        await assert_gets(service, [blob.digest for blob in blobs], [blob.data for blob in blobs])

    # Chunks

    async def test_chunks_of_a_small_blob_are_none_at_all_or_it(self, service: BlobService) -> None:
        digest = await write_blob(service, contents(100))
        chunks = await service.chunks(digest)
        assert chunks is not None
        assert [(chunk.digest, chunk.size) for chunk in chunks] in ([], [(digest, 100)])

    @large
    async def test_chunks_can_be_read_and_make_up_the_blob(self, service: BlobService) -> None:
        digest = await write_blob(service, data := contents(LARGE_BYTES))
        chunks = await service.chunks(digest)
        assert chunks is not None
        pieces = [await read_blob(service, chunk.digest) or b"" for chunk in chunks]
        assert [len(piece) for piece in pieces] == [chunk.size for chunk in chunks]
        assert not chunks or brief(b"".join(pieces)) == brief(data)
        assert service.capabilities.chunks or not chunks

    @large
    async def test_chunks_are_blobs_to_batches(self, service: BlobService) -> None:
        digest = await write_blob(service, contents(LARGE_BYTES))
        for chunk in await service.chunks(digest) or []:
            limit = max(chunk.size, SMALL_BLOB_BYTES)
            assert await service.has(chunk.digest) is True
            assert list(await service.has_many([chunk.digest])) == [True]
            (piece,) = await service.get_many([chunk.digest], max_blob_bytes=limit)
            assert piece is not None
            assert B3Digest.of(piece) == chunk.digest

    # Listing and deleting

    async def test_capabilities_are_stated(self, service: BlobService, store: BlobService) -> None:
        assert isinstance(service.capabilities, Capabilities)
        assert store.capabilities == service.capabilities

    @large
    async def test_list_gives_every_blob_once_and_no_chunks_or_is_refused(self, service: BlobService) -> None:
        blobs = [HashedBlob(b"listed %d" % number) for number in range(100)]
        await service.put_many(blobs)
        digests = {blob.digest for blob in blobs} | {await write_blob(service, contents(LARGE_BYTES))}
        if service.capabilities.list:
            assert await list_blobs(service) == sorted(digests)
        else:
            with pytest.raises(Unsupported):
                await list_blobs(service)

    async def test_list_of_nothing_is_empty_or_is_refused(self, service: BlobService) -> None:
        if service.capabilities.list:
            assert await list_blobs(service) == []
        else:
            with pytest.raises(Unsupported):
                await list_blobs(service)

    @pytest.mark.parametrize("size", [12, 1_500_000])
    async def test_what_was_deleted_is_absent_or_delete_is_refused(self, service: BlobService, size: int) -> None:
        gone, kept = await write_blob(service, contents(size, 1)), await write_blob(service, contents(size, 2))
        if await delete_blobs(service, gone):
            await assert_absent(service, gone)
        else:
            await assert_reads(service, gone, contents(size, 1))
        await assert_reads(service, kept, contents(size, 2))

    async def test_deleting_the_absent_is_fine_or_is_refused(self, service: BlobService) -> None:
        digest = await write_blob(service, contents(50))
        deleted = await delete_blobs(service, HELLOWORLD_BLOB.digest, digest, digest)
        await assert_reads(service, digest, None if deleted else contents(50))
        await delete_blobs(service, digest)

    @pytest.mark.parametrize("size", [12, 1_500_000])
    async def test_what_was_deleted_can_be_put_again(self, service: BlobService, size: int) -> None:
        digest = await write_blob(service, data := contents(size))
        for _ in range(2):
            await delete_blobs(service, digest)
            assert await write_blob(service, data) == digest
            await assert_reads(service, digest, data)
            assert await service.has(digest) is True

    @large
    async def test_delete_keeps_chunks_that_others_are_made_of(self, service: BlobService) -> None:
        shared = contents(3 * MIB)
        gone, kept = await write_blob(service, shared, b"gone"), await write_blob(service, shared, b"kept")
        if await delete_blobs(service, gone):
            assert await read_blob(service, gone) is None
        await assert_reads(service, kept, shared + b"kept")

    @large
    async def test_a_blob_and_a_chunk_of_the_same_contents_are_kept_apart(self, service: BlobService) -> None:
        whole = await write_blob(service, data := contents(LARGE_BYTES))
        for chunk in (await service.chunks(whole) or [])[:1]:
            piece = data[: chunk.size]
            assert await write_blob(service, piece) == chunk.digest
            await delete_blobs(service, chunk.digest)
            await assert_reads(service, whole, data)
            await write_blob(service, piece)
            await delete_blobs(service, whole)
            await assert_reads(service, chunk.digest, piece)

    # Upkeep

    async def test_stats_count_what_is_there_or_are_refused(self, service: BlobService) -> None:
        blobs = [HashedBlob(contents(1000 + seed, seed)) for seed in range(20)]
        await service.put_many([*blobs, *blobs[:5]])
        deleted = await delete_blobs(service, blobs[-1].digest)
        there = blobs[:-1] if deleted else blobs
        with contextlib.suppress(Unsupported):
            stats = await service.stats()
            assert stats.objects == len(there)
            assert stats.logical_bytes in (None, sum(map(len, there)))

    @large
    async def test_stats_tell_what_blobs_have_in_common_or_are_refused(self, service: BlobService) -> None:
        shared = contents(3 * MIB)
        await write_blob(service, shared, b"one")
        await write_blob(service, shared, b"two")
        with contextlib.suppress(Unsupported):
            stats = await service.stats()
            assert stats.objects == 2
            assert stats.logical_bytes in (None, 2 * len(shared) + 6)
            assert stats.unique_bytes is None or len(shared) <= stats.unique_bytes <= 2 * len(shared) + 6

    async def test_verifying_what_is_sound_finds_nothing_or_is_refused(self, service: BlobService) -> None:
        await service.put_many([HashedBlob(contents(size, size)) for size in (1, 2, 5000, 64 * KIB)])
        await write_blob(service, contents(3 * MIB))
        told: list[int] = []
        if service.capabilities.list:
            assert await verify_blobs(service, lambda done, total: told.append(done)) == []
            assert told == sorted(told)
            assert told[-1] > 0
        else:
            with pytest.raises(Unsupported):
                await verify_blobs(service)

    async def test_compacting_keeps_what_is_there_or_is_refused(self, service: BlobService) -> None:
        blobs = [HashedBlob(contents(30_000, seed)) for seed in range(40)]
        await service.put_many(blobs)
        if not service.capabilities.compact:
            with pytest.raises(Unsupported):
                await service.compact()
            return
        deleted = await delete_blobs(service, *(blob.digest for blob in blobs[::2]))
        assert await service.compact() >= 0
        expected = [None if deleted and index % 2 == 0 else blob.data for index, blob in enumerate(blobs)]
        await assert_gets(service, [blob.digest for blob in blobs], expected)

    async def test_sync_returns_and_takes_nothing_away(self, service: BlobService) -> None:
        await service.sync()
        digest = await write_blob(service, data := contents(5000))
        await service.sync()
        await assert_reads(service, digest, data)

    # Corruption and closing

    async def test_discarding_keeps_what_is_sound(self, service: BlobService) -> None:
        digest = await write_blob(service, data := contents(700_000))
        await service.discard_corrupt(digest)
        await service.discard_corrupt(HELLOWORLD_BLOB.digest)
        await assert_reads(service, digest, data)

    async def test_closing_twice_is_fine(self, service: BlobService) -> None:
        await write_blob(service, contents(50))
        await service.aclose()
        await service.aclose()


class BlobPersistenceTests(BlobServiceSuite):
    """Further promises of services that keep what they store across a restart."""

    async def reopen(self, service: BlobService) -> BlobService:
        """Close ``service`` and open what it stored again. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has to override `reopen`")

    async def test_what_was_put_is_there_after_reopening(self, service: BlobService) -> None:
        blob, data = HashedBlob(contents(400, 1)), contents(3 * MIB, 2)
        await service.put_many([blob])
        digest = await write_blob(service, data)
        async with await self.reopen(service) as again:
            await assert_reads(again, blob.digest, blob.data)
            await assert_reads(again, digest, data)
            assert list(await again.has_many([blob.digest, digest])) == [True, True]

    async def test_what_was_not_closed_is_absent_after_reopening(self, service: BlobService) -> None:
        data = contents(3 * MIB)
        writer = await service.open_write()
        await writer.write(data)
        await writer.aclose()
        async with await self.reopen(service) as again:
            await assert_absent(again, B3Digest.of(data))

    async def test_what_was_deleted_is_absent_after_reopening(self, service: BlobService) -> None:
        gone, kept = await write_blob(service, contents(50, 1)), await write_blob(service, contents(50, 2))
        deleted = await delete_blobs(service, gone)
        async with await self.reopen(service) as again:
            assert await again.has(gone) is not deleted
            await assert_reads(again, kept, contents(50, 2))

    async def test_reopened_services_take_more(self, service: BlobService) -> None:
        before = await write_blob(service, contents(50, 1))
        async with await self.reopen(service) as again:
            after = await write_blob(again, contents(50, 2))
            await assert_gets(again, [before, after], [contents(50, 1), contents(50, 2)])


class BlobDamageTests(BlobServiceSuite):
    """Further promises of services that store bytes which could rot."""

    async def damage(self, service: BlobService, digest: B3Digest) -> None:
        """Change a bit of what is stored for the blob, behind the back of ``service``. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has to override `damage`")

    @pytest.mark.parametrize("size", [12, 100_000, 3 * MIB])
    async def test_damaged_blob_is_never_read_to_its_end(
        self, service: BlobService, store: BlobService, size: int
    ) -> None:
        digest = await write_blob(store, contents(size))
        await self.damage(service, digest)
        with pytest.raises(CorruptObject):
            await read_blob(store, digest)

    async def test_damaged_blob_is_not_in_a_batch(self, service: BlobService, store: BlobService) -> None:
        blobs = [HashedBlob(contents(2000, seed)) for seed in range(3)]
        await store.put_many(blobs)
        await self.damage(service, blobs[1].digest)
        with pytest.raises(CorruptObject):
            await store.get_many([blob.digest for blob in blobs])

    @pytest.mark.parametrize("size", [12, 100_000, 3 * MIB])
    async def test_damaged_blob_is_healed_by_the_next_write(
        self, service: BlobService, store: BlobService, size: int
    ) -> None:
        digest = await write_blob(store, data := contents(size))
        await self.damage(service, digest)
        with pytest.raises(CorruptObject):
            await read_blob(store, digest)
        assert await store.has_many([digest]) == [False], "who asks first would not write it again"
        assert await write_blob(store, data) == digest
        await assert_reads(store, digest, data)

    async def test_damaged_blob_is_healed_by_the_next_batch(self, service: BlobService, store: BlobService) -> None:
        await store.put_many([blob := HashedBlob(contents(2000))])
        await self.damage(service, blob.digest)
        with pytest.raises(CorruptObject):
            await store.get_many([blob.digest])
        assert await store.has(blob.digest) is False, "who asks first would not put it again"
        await store.put_many([blob])
        await assert_gets(store, [blob.digest], [blob.data])

    @pytest.mark.parametrize("size", [12, 100_000, 3 * MIB])
    async def test_damaged_blob_is_found_by_verifying(
        self, service: BlobService, store: BlobService, size: int
    ) -> None:
        blobs = [HashedBlob(contents(2000 + seed, seed + 1)) for seed in range(9)]
        await store.put_many(blobs)
        digest = await write_blob(store, data := contents(size))
        await self.damage(service, digest)
        if not service.capabilities.list:
            return
        assert [damage.digest for damage in await verify_blobs(store) if damage.kind == "blob"] == [str(digest)]
        assert await write_blob(store, data) == digest
        await assert_reads(store, digest, data)
        assert await verify_blobs(store) == []
        await assert_gets(store, [blob.digest for blob in blobs], [blob.data for blob in blobs])
