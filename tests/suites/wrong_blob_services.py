"""Blob services that are wrong in one way each, and the tests of the suite that have to find it.

Not collected by itself: `test_wrong_services.py` runs it, and expects the tests in ``breaks`` to fail and no others.
"""

# ruff: noqa: D106

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import ClassVar

from suites.dict_services import CHUNK_BYTES, BlobStorage, DictBlobService
from suites.wrong_bases import WrongBlobs
from tvix_store.blob import ChunkMeta
from tvix_store.capabilities import Capabilities
from tvix_store.digest import EMPTY_DIGEST, B3Digest, HashedBlob
from tvix_store.errors import InvalidObject, Unavailable
from tvix_store.limits import BATCH_COUNT, SMALL_BLOB_BYTES

# Batches


class TestGetManyIsInOrderOfDigests(WrongBlobs):
    breaks: ClassVar = {
        "test_batches_answer_for_the_absent_too",
        "test_batches_answer_in_the_order_asked",
        "test_batches_may_be_full_of_bytes",
        "test_batches_may_be_longer_than_usual",
        "test_compacting_keeps_what_is_there_or_is_refused",
        "test_damaged_blob_is_found_by_verifying",
        "test_much_at_once_does_not_mix",
        "test_reopened_services_take_more",
        "test_written_blobs_are_in_batches_too",
    }

    class Service(DictBlobService):
        async def get_many(
            self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
        ) -> Sequence[bytes | None]:
            return await super().get_many(sorted(digests), max_blob_bytes=max_blob_bytes)


class TestHasManyAnswersOnce(WrongBlobs):
    breaks: ClassVar = {"test_batches_answer_for_the_absent_too"}

    class Service(DictBlobService):
        async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
            return await super().has_many(list(dict.fromkeys(digests)))


class TestGetManyLeavesOutTheAbsent(WrongBlobs):
    breaks: ClassVar = {
        "test_batches_answer_for_the_absent_too",
        "test_batches_may_be_longer_than_usual",
        "test_compacting_keeps_what_is_there_or_is_refused",
        "test_much_at_once_does_not_mix",
    }

    class Service(DictBlobService):
        async def get_many(
            self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
        ) -> Sequence[bytes | None]:
            found = await super().get_many(digests, max_blob_bytes=max_blob_bytes)
            return [blob for blob in found if blob is not None] if len(digests) > 1 else found


class TestGetManyHasNoLimit(WrongBlobs):
    breaks: ClassVar = {"test_get_many_refuses_what_is_longer_than_asked"}

    class Service(DictBlobService):
        async def get_many(
            self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
        ) -> Sequence[bytes | None]:
            return await super().get_many(digests, max_blob_bytes=10**9)


class TestPutManyStopsAtAThousand(WrongBlobs):
    breaks: ClassVar = {"test_batches_may_be_longer_than_usual"}

    class Service(DictBlobService):
        async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
            await super().put_many(blobs[:BATCH_COUNT])


class TestPutManyRefusesWhatIsThere(WrongBlobs):
    breaks: ClassVar = {
        "test_put_many_takes_what_is_there_and_what_comes_twice",
        "test_stats_count_what_is_there_or_are_refused",
    }

    class Service(DictBlobService):
        async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
            for blob in blobs:
                if await self.has(blob.digest):
                    raise Unavailable("UNIQUE constraint failed")
                self.store(blob.data)


class TestEmptyBatchesAreRefused(WrongBlobs):
    breaks: ClassVar = {"test_empty_batches_are_fine"}

    class Service(DictBlobService):
        async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
            if not digests:
                raise InvalidObject("nothing was asked for")
            return await super().has_many(digests)


# Chunks


class TestChunksDoNotAddUp(WrongBlobs):
    breaks: ClassVar = {"test_chunks_can_be_read_and_make_up_the_blob"}

    class Service(DictBlobService):
        async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
            chunks = await super().chunks(digest)
            return chunks[:-1] if chunks else chunks


class TestChunksAreNoBlobs(WrongBlobs):
    breaks: ClassVar = {"test_chunks_are_blobs_to_batches", "test_chunks_can_be_read_and_make_up_the_blob"}

    class Service(DictBlobService):
        def chunk_list(self, digest: B3Digest) -> list[ChunkMeta] | None:
            return self.storage.blobs.get(digest)


class TestSmallBlobsHaveTwoChunks(WrongBlobs):
    breaks: ClassVar = {"test_chunks_are_blobs_to_batches", "test_chunks_of_a_small_blob_are_none_at_all_or_it"}

    class Service(DictBlobService):
        async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
            chunks = self.chunk_list(digest)
            return chunks and [*chunks, ChunkMeta(EMPTY_DIGEST, 0)]


# Listing and deleting


class TestListHasChunks(WrongBlobs):
    breaks: ClassVar = {
        "test_damaged_blob_is_found_by_verifying",
        "test_list_gives_every_blob_once_and_no_chunks_or_is_refused",
    }

    class Service(DictBlobService):
        async def list(self) -> AsyncIterator[B3Digest]:
            for digest in {*self.storage.blobs, *self.storage.chunks}:
                yield digest


class TestListIsShort(WrongBlobs):
    breaks: ClassVar = {"test_list_gives_every_blob_once_and_no_chunks_or_is_refused"}

    class Service(DictBlobService):
        async def list(self) -> AsyncIterator[B3Digest]:
            for digest in list(self.storage.blobs)[:100]:
                yield digest


class TestListRepeats(WrongBlobs):
    breaks: ClassVar = {"test_list_gives_every_blob_once_and_no_chunks_or_is_refused"}

    class Service(DictBlobService):
        async def list(self) -> AsyncIterator[B3Digest]:
            for digest in [*self.storage.blobs, *list(self.storage.blobs)[:1]]:
                yield digest


class TestDeleteDoesNothing(WrongBlobs):
    breaks: ClassVar = {
        "test_compacting_keeps_what_is_there_or_is_refused",
        "test_delete_keeps_chunks_that_others_are_made_of",
        "test_deleting_the_absent_is_fine_or_is_refused",
        "test_stats_count_what_is_there_or_are_refused",
        "test_what_was_deleted_is_absent_after_reopening",
        "test_what_was_deleted_is_absent_or_delete_is_refused",
    }

    class Service(DictBlobService):
        async def delete(self, digests: Sequence[B3Digest]) -> None:
            pass


class TestDeleteTakesSharedChunks(WrongBlobs):
    breaks: ClassVar = {
        "test_a_blob_and_a_chunk_of_the_same_contents_are_kept_apart",
        "test_delete_keeps_chunks_that_others_are_made_of",
    }

    class Service(DictBlobService):
        async def delete(self, digests: Sequence[B3Digest]) -> None:
            for digest in digests:
                for chunk in self.storage.blobs.pop(digest, []):
                    self.storage.chunks.pop(chunk.digest, None)


class TestDeletedStaysDeleted(WrongBlobs):
    breaks: ClassVar = {
        "test_a_blob_and_a_chunk_of_the_same_contents_are_kept_apart",
        "test_what_was_deleted_can_be_put_again",
    }

    class Service(DictBlobService):
        def __init__(self, storage: BlobStorage | None = None) -> None:
            super().__init__(storage)
            self.deleted: set[B3Digest] = set()

        async def delete(self, digests: Sequence[B3Digest]) -> None:
            await super().delete(digests)
            self.deleted.update(digests)

        def store(self, data: bytes) -> B3Digest:
            return B3Digest.of(data) if B3Digest.of(data) in self.deleted else super().store(data)


class TestDeletingTheAbsentIsAnError(WrongBlobs):
    breaks: ClassVar = {"test_deleting_the_absent_is_fine_or_is_refused"}

    class Service(DictBlobService):
        async def delete(self, digests: Sequence[B3Digest]) -> None:
            for digest in digests:
                if digest not in self.storage.blobs:
                    raise Unavailable(f"blob {digest} not found")
                await super().delete([digest])


class TestDoesWhatItDoesNotState(WrongBlobs):
    breaks: ClassVar = {
        "test_a_blob_and_a_chunk_of_the_same_contents_are_kept_apart",
        "test_chunks_can_be_read_and_make_up_the_blob",
        "test_compacting_keeps_what_is_there_or_is_refused",
        "test_delete_keeps_chunks_that_others_are_made_of",
        "test_deleting_the_absent_is_fine_or_is_refused",
        "test_list_gives_every_blob_once_and_no_chunks_or_is_refused",
        "test_list_of_nothing_is_empty_or_is_refused",
        "test_stats_count_what_is_there_or_are_refused",
        "test_verifying_what_is_sound_finds_nothing_or_is_refused",
        "test_what_was_deleted_can_be_put_again",
        "test_what_was_deleted_is_absent_after_reopening",
        "test_what_was_deleted_is_absent_or_delete_is_refused",
    }

    class Service(DictBlobService):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities()


# Corruption, restart, closing


class TestDiscardsWhatIsSound(WrongBlobs):
    breaks: ClassVar = {"test_discarding_keeps_what_is_sound"}

    class Service(DictBlobService):
        async def discard_corrupt(self, digest: B3Digest) -> None:
            await self.delete([digest])


class TestNeverHeals(WrongBlobs):
    breaks: ClassVar = {
        "test_damaged_blob_is_found_by_verifying",
        "test_damaged_blob_is_healed_by_the_next_batch",
        "test_damaged_blob_is_healed_by_the_next_write",
    }

    class Service(DictBlobService):
        async def discard_corrupt(self, digest: B3Digest) -> None:
            pass


class TestHasWhatIsCorrupt(WrongBlobs):
    breaks: ClassVar = {
        "test_damaged_blob_is_healed_by_the_next_batch",
        "test_damaged_blob_is_healed_by_the_next_write",
    }

    class Service(DictBlobService):
        def store(self, data: bytes) -> B3Digest:
            for start in range(0, len(data), CHUNK_BYTES):
                piece = HashedBlob(data[start : start + CHUNK_BYTES])
                self.storage.chunks[piece.digest] = piece.data
            return super().store(data)

        async def discard_corrupt(self, digest: B3Digest) -> None:
            pass


class TestForgetsAllWhenClosed(WrongBlobs):
    breaks: ClassVar = {
        "test_reopened_services_take_more",
        "test_what_was_deleted_is_absent_after_reopening",
        "test_what_was_put_is_there_after_reopening",
    }

    class Service(DictBlobService):
        async def aclose(self) -> None:
            self.storage.blobs.clear()
            self.storage.sweep()


class TestClosesOnce(WrongBlobs):
    breaks: ClassVar = {
        "test_closing_twice_is_fine",
        "test_reopened_services_take_more",
        "test_what_was_deleted_is_absent_after_reopening",
        "test_what_was_not_closed_is_absent_after_reopening",
        "test_what_was_put_is_there_after_reopening",
    }

    class Service(DictBlobService):
        closed = False

        async def aclose(self) -> None:
            if self.closed:
                raise Unavailable("Cannot operate on a closed database.")
            self.closed = True


class TestCapabilitiesAreNotAValue(WrongBlobs):
    breaks: ClassVar = {"test_capabilities_are_stated", "test_compacting_keeps_what_is_there_or_is_refused"}

    class Service(DictBlobService):
        @property
        def capabilities(self) -> Capabilities:
            return SimpleNamespace(list=True, delete=True, chunks=True)  # type: ignore[return-value]
