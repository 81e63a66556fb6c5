"""Blob services whose readers or writers are wrong in one way each, and the tests that have to find it.

Not collected by itself: `test_wrong_services.py` runs it, and expects the tests in ``breaks`` to fail and no others.
"""

# ruff: noqa: D106

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from suites.dict_services import BlobStorage, DictBlobService, DictWriter
from suites.wrong_bases import WrongBlobs
from tvix_store.blob import BlobReader, BlobWriter, BytesReader, ChunkMeta
from tvix_store.digest import B3Digest
from tvix_store.errors import Unavailable
from tvix_store.limits import MIB, PIECE_BYTES

# Absence


class TestHasIsAlwaysTrue(WrongBlobs):
    breaks: ClassVar = {
        "test_a_cancelled_upload_leaves_nothing",
        "test_a_writer_that_was_not_closed_leaves_nothing",
        "test_absent_blob_is_none_beside_others",
        "test_absent_blob_is_none_not_an_error",
        "test_batches_answer_for_the_absent_too",
        "test_batches_may_be_longer_than_usual",
        "test_damaged_blob_is_healed_by_the_next_batch",
        "test_damaged_blob_is_healed_by_the_next_write",
        "test_nothing_is_visible_before_close",
        "test_what_was_deleted_is_absent_after_reopening",
        "test_what_was_deleted_is_absent_or_delete_is_refused",
        "test_what_was_not_closed_is_absent_after_reopening",
    }

    class Service(DictBlobService):
        async def has(self, digest: B3Digest) -> bool:
            return True


class TestAbsenceIsAnError(WrongBlobs):
    breaks: ClassVar = {
        "test_a_cancelled_upload_leaves_nothing",
        "test_a_writer_that_was_not_closed_leaves_nothing",
        "test_absent_blob_is_none_beside_others",
        "test_absent_blob_is_none_not_an_error",
        "test_batches_answer_for_the_absent_too",
        "test_batches_may_be_longer_than_usual",
        "test_compacting_keeps_what_is_there_or_is_refused",
        "test_delete_keeps_chunks_that_others_are_made_of",
        "test_deleting_the_absent_is_fine_or_is_refused",
        "test_empty_blob_is_always_there",
        "test_much_at_once_does_not_mix",
        "test_nothing_is_visible_before_close",
        "test_what_was_deleted_is_absent_or_delete_is_refused",
        "test_what_was_not_closed_is_absent_after_reopening",
    }

    class Service(DictBlobService):
        async def open_read(self, digest: B3Digest) -> BlobReader | None:
            if not await self.has(digest):
                raise Unavailable(f"blob {digest} not found")
            return await super().open_read(digest)


class TestChunksOfTheAbsentAreEmpty(WrongBlobs):
    breaks: ClassVar = {
        "test_a_cancelled_upload_leaves_nothing",
        "test_a_writer_that_was_not_closed_leaves_nothing",
        "test_absent_blob_is_none_beside_others",
        "test_absent_blob_is_none_not_an_error",
        "test_nothing_is_visible_before_close",
        "test_what_was_deleted_is_absent_or_delete_is_refused",
        "test_what_was_not_closed_is_absent_after_reopening",
    }

    class Service(DictBlobService):
        async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
            return await super().chunks(digest) or []


# Reading


class ReaderAround(BlobReader):
    """A reader to be made wrong."""

    def __init__(self, inner: BlobReader) -> None:
        self.inner = inner

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        return await self.inner.read(max_bytes)

    async def seek(self, position: int) -> None:
        await self.inner.seek(position)


class TestOneSizeIsReadWrong(WrongBlobs):
    breaks: ClassVar = {"test_what_was_written_is_read"}

    class Service(DictBlobService):
        async def open_read(self, digest: B3Digest) -> BlobReader | None:
            chunks = self.chunk_list(digest)
            if chunks and sum(chunk.size for chunk in chunks) == 2**20 - 1:
                return BytesReader(bytes(2**20 - 1))
            return await super().open_read(digest)


class TestReadsMoreThanAskedFor(WrongBlobs):
    breaks: ClassVar = {"test_read_gives_at_most_what_was_asked_for"}

    class Reader(ReaderAround):
        async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
            return await self.inner.read(max(max_bytes, 4096))

    class Service(DictBlobService):
        async def open_read(self, digest: B3Digest) -> BlobReader | None:
            reader = await super().open_read(digest)
            return reader and TestReadsMoreThanAskedFor.Reader(reader)


class TestSeeksFromWhereItIs(WrongBlobs):
    breaks: ClassVar = {
        "test_at_and_past_the_end_there_is_nothing",
        "test_reading_goes_on_to_the_end_after_a_seek",
        "test_seek_goes_forwards_and_backwards",
    }

    class Reader(ReaderAround):
        position = 0

        async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
            piece = await self.inner.read(max_bytes)
            self.position += len(piece)
            return piece

        async def seek(self, position: int) -> None:
            self.position += position
            await self.inner.seek(self.position)

    class Service(DictBlobService):
        async def open_read(self, digest: B3Digest) -> BlobReader | None:
            reader = await super().open_read(digest)
            return reader and TestSeeksFromWhereItIs.Reader(reader)


class TestSeekPastTheEndIsAnError(WrongBlobs):
    breaks: ClassVar = {"test_at_and_past_the_end_there_is_nothing"}

    class Reader(ReaderAround):
        def __init__(self, inner: BlobReader, size: int) -> None:
            super().__init__(inner)
            self.size = size

        async def seek(self, position: int) -> None:
            if position > self.size:
                raise Unavailable("position is past the end")
            await self.inner.seek(position)

    class Service(DictBlobService):
        async def open_read(self, digest: B3Digest) -> BlobReader | None:
            reader = await super().open_read(digest)
            size = sum(chunk.size for chunk in self.chunk_list(digest) or [])
            return reader and TestSeekPastTheEndIsAnError.Reader(reader, size)


class TestReadersShareAPosition(WrongBlobs):
    breaks: ClassVar = {"test_a_reader_closed_halfway_does_no_harm", "test_readers_keep_positions_of_their_own"}

    class Service(DictBlobService):
        def __init__(self, storage: BlobStorage | None = None) -> None:
            super().__init__(storage)
            self.readers: dict[B3Digest, BlobReader] = {}

        async def open_read(self, digest: B3Digest) -> BlobReader | None:
            reader = await super().open_read(digest)
            if reader is None or len(self.storage.blobs.get(digest, [])) != 3:
                return reader
            return self.readers.setdefault(digest, reader)


# Writing


class TestVisibleBeforeClose(WrongBlobs):
    breaks: ClassVar = {
        "test_a_cancelled_upload_leaves_nothing",
        "test_a_writer_that_was_not_closed_leaves_nothing",
        "test_nothing_is_visible_before_close",
        "test_stats_tell_what_blobs_have_in_common_or_are_refused",
        "test_what_was_not_closed_is_absent_after_reopening",
    }

    class Service(DictBlobService):
        async def open_write(self) -> BlobWriter:
            return TestVisibleBeforeClose.Writer(self)

    class Writer(DictWriter):
        async def write(self, data: bytes) -> None:
            await super().write(data)
            await self.close()


class TestAbandonedUploadIsKept(WrongBlobs):
    breaks: ClassVar = {
        "test_a_cancelled_upload_leaves_nothing",
        "test_a_writer_that_was_not_closed_leaves_nothing",
        "test_what_was_not_closed_is_absent_after_reopening",
    }

    class Service(DictBlobService):
        async def open_write(self) -> BlobWriter:
            return TestAbandonedUploadIsKept.Writer(self)

    class Writer(DictWriter):
        async def aclose(self) -> None:
            await self.close()


class TestSecondCloseStartsAnew(WrongBlobs):
    breaks: ClassVar = {"test_closing_a_writer_again_gives_the_same_digest"}

    class Service(DictBlobService):
        async def open_write(self) -> BlobWriter:
            return TestSecondCloseStartsAnew.Writer(self)

    class Writer(DictWriter):
        async def close(self) -> B3Digest:
            digest = await super().close()
            self.pieces.clear()
            return digest


class TestWritersShareABuffer(WrongBlobs):
    breaks: ClassVar = {
        "test_damaged_blob_is_healed_by_the_next_batch",
        "test_damaged_blob_is_healed_by_the_next_write",
        "test_two_writers_do_not_mix",
        "test_what_was_deleted_can_be_put_again",
    }

    class Service(DictBlobService):
        def __init__(self, storage: BlobStorage | None = None) -> None:
            super().__init__(storage)
            self.pieces: list[bytes] = []

        async def open_write(self) -> BlobWriter:
            writer = DictWriter(self)
            if not self.storage.blobs:
                writer.pieces = self.pieces
            return writer


class TestEmptyBlobIsRefused(WrongBlobs):
    breaks: ClassVar = {
        "test_at_and_past_the_end_there_is_nothing",
        "test_digest_is_the_blake3_of_the_contents",
        "test_no_write_at_all_makes_the_empty_blob",
        "test_put_many_is_as_good_as_writing",
        "test_what_was_written_is_read",
        "test_written_blobs_are_in_batches_too",
    }

    class Service(DictBlobService):
        def store(self, data: bytes) -> B3Digest:
            if not data:
                raise Unavailable("nothing was written")
            return super().store(data)


class TestWritingAgainLoses(WrongBlobs):
    breaks: ClassVar = {
        "test_closing_a_writer_again_gives_the_same_digest",
        "test_one_blob_may_be_written_many_times_at_once",
        "test_stats_count_what_is_there_or_are_refused",
        "test_writing_a_blob_again_is_harmless",
    }

    class Service(DictBlobService):
        def store(self, data: bytes) -> B3Digest:
            if B3Digest.of(data) not in self.storage.blobs:
                return super().store(data)
            del self.storage.blobs[B3Digest.of(data)]
            self.storage.sweep()
            return B3Digest.of(data)


class TestOnlyOneWriteCounts(WrongBlobs):
    breaks: ClassVar = {
        "test_delete_keeps_chunks_that_others_are_made_of",
        "test_empty_writes_add_nothing",
        "test_how_writes_are_cut_makes_no_difference",
        "test_stats_tell_what_blobs_have_in_common_or_are_refused",
        "test_two_writers_do_not_mix",
        "test_writing_a_blob_again_is_harmless",
    }

    class Service(DictBlobService):
        async def open_write(self) -> BlobWriter:
            return TestOnlyOneWriteCounts.Writer(self)

    class Writer(DictWriter):
        async def write(self, data: bytes) -> None:
            self.pieces = [data]


class TestEmptyWriteEnds(WrongBlobs):
    breaks: ClassVar = {"test_empty_writes_add_nothing"}

    class Service(DictBlobService):
        async def open_write(self) -> BlobWriter:
            return TestEmptyWriteEnds.Writer(self)

    class Writer(DictWriter):
        ended = False

        async def write(self, data: bytes) -> None:
            self.ended = self.ended or not data
            if not self.ended:
                await super().write(data)


class TestOneWriteHasALimit(WrongBlobs):
    breaks: ClassVar = {
        "test_a_blob_and_a_chunk_of_the_same_contents_are_kept_apart",
        "test_chunks_can_be_read_and_make_up_the_blob",
        "test_damaged_blob_is_found_by_verifying",
        "test_damaged_blob_is_healed_by_the_next_write",
        "test_damaged_blob_is_never_read_to_its_end",
        "test_delete_keeps_chunks_that_others_are_made_of",
        "test_get_many_refuses_what_is_longer_than_asked",
        "test_one_write_may_be_large",
        "test_reading_goes_on_to_the_end_after_a_seek",
        "test_seek_goes_forwards_and_backwards",
        "test_small_reads_of_a_large_blob_join_up",
        "test_stats_tell_what_blobs_have_in_common_or_are_refused",
        "test_what_was_put_is_there_after_reopening",
        "test_what_was_written_is_read",
    }

    class Service(DictBlobService):
        async def open_write(self) -> BlobWriter:
            return TestOneWriteHasALimit.Writer(self)

    class Writer(DictWriter):
        async def write(self, data: bytes) -> None:
            await super().write(data[: 2 * MIB])


class TestSmallReadsLoseTheRest(WrongBlobs):
    breaks: ClassVar = {"test_read_gives_at_most_what_was_asked_for", "test_small_reads_of_a_large_blob_join_up"}

    class Reader(ReaderAround):
        async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
            return (await self.inner.read())[:max_bytes]

    class Service(DictBlobService):
        async def open_read(self, digest: B3Digest) -> BlobReader | None:
            reader = await super().open_read(digest)
            return reader and TestSmallReadsLoseTheRest.Reader(reader)
