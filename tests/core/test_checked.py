"""What core adds around every blob service, whatever the service does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from fakes.services import Hang
from tvix_store.blob import BlobReader, BlobWriter, BytesReader, ChunkMeta, read_at_most
from tvix_store.capabilities import Capabilities
from tvix_store.checked import CheckedBlobService
from tvix_store.digest import EMPTY_DIGEST, B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, DanglingReference, LimitExceeded, StoreError, Unavailable, Unsupported
from tvix_store.limits import MIB, PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.testing.fixtures import HELLOWORLD_BLOB, contents
from tvix_store.testing.minimal import MinimalBlobService

pytestmark = pytest.mark.anyio


class Blobs(MinimalBlobService):
    """Remembers what it was told to discard; fails as told."""

    def __init__(self) -> None:
        super().__init__()
        self.discarded: list[B3Digest] = []
        self.fault: StoreError | None = None
        self.closed = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(chunks=True)

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        if self.fault:
            raise self.fault
        return await super().open_read(digest)

    async def discard_corrupt(self, digest: B3Digest) -> None:
        self.discarded.append(digest)
        if digest in self.blobs and B3Digest.of(self.blobs[digest]) != digest:
            del self.blobs[digest]

    async def aclose(self) -> None:
        self.closed += 1


class VerifyingBlobs(Blobs):
    """States that it checks what it gives."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(verifies=True)


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()


@pytest.fixture
def checked_blobs(blobs: Blobs) -> CheckedBlobService:
    return CheckedBlobService("disk", blobs)


def spoil(blobs: Blobs, size: int) -> B3Digest:
    """Store something else under the digest of ``contents(size)``, different in its last byte."""
    digest = B3Digest.of(contents(size))
    blobs.blobs[digest] = contents(size)[:-1] + bytes([contents(size)[-1] ^ 1])
    return digest


class TestBlobs:
    @pytest.mark.parametrize("max_bytes", [1000, PIECE_BYTES, 10 * PIECE_BYTES])
    @pytest.mark.parametrize("size", [1, 12, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 5])
    async def test_last_piece_of_a_corrupt_blob_is_withheld(
        self, blobs: Blobs, checked_blobs: CheckedBlobService, size: int, max_bytes: int
    ) -> None:
        digest = spoil(blobs, size)
        reader = await checked_blobs.open_read(digest)
        assert reader is not None
        delivered = 0
        with pytest.raises(CorruptObject) as caught:  # noqa: PT012
            while True:
                delivered += len(await reader.read(max_bytes))
        assert delivered == (size - 1) // PIECE_BYTES * PIECE_BYTES
        assert caught.value.expected == str(digest)
        assert caught.value.actual not in (None, str(digest))
        assert blobs.discarded == [digest]
        with pytest.raises(CorruptObject):
            await reader.read(max_bytes)

    async def test_message_names_service_and_object(self, blobs: Blobs, checked_blobs: CheckedBlobService) -> None:
        digest = spoil(blobs, 12)
        with pytest.raises(CorruptObject) as caught:
            await checked_blobs.get_many([digest])
        assert str(caught.value).startswith(f"disk: blob {digest} is corrupt: ")

    @pytest.mark.parametrize("size", [12, 100_000])
    async def test_batch_with_a_corrupt_blob_is_refused(
        self, blobs: Blobs, checked_blobs: CheckedBlobService, size: int
    ) -> None:
        sound = HashedBlob(contents(40, 7))
        await checked_blobs.put_many([sound])
        digest = spoil(blobs, size)
        with pytest.raises(CorruptObject):
            await checked_blobs.get_many([sound.digest, digest, HELLOWORLD_BLOB.digest])
        assert blobs.discarded == [digest]
        assert list(await checked_blobs.get_many([sound.digest, digest])) == [sound.data, None]

    async def test_what_the_service_itself_finds_corrupt_is_discarded_too(
        self, blobs: Blobs, checked_blobs: CheckedBlobService
    ) -> None:
        digest = spoil(blobs, 12)
        blobs.fault = CorruptObject("chunk is corrupt")
        for read in (checked_blobs.open_read(digest), checked_blobs.get_many([digest])):
            with pytest.raises(CorruptObject, match="chunk is corrupt"):
                await read
        assert blobs.discarded == [digest, digest]
        assert await blobs.has(digest) is False

    async def test_what_a_reader_finds_corrupt_is_discarded_too(
        self, blobs: Blobs, checked_blobs: CheckedBlobService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def read(self: BytesReader, max_bytes: int = 0) -> bytes:
            raise DanglingReference("chunk does not exist")

        monkeypatch.setattr(BytesReader, "read", read)
        digest = spoil(blobs, 12)
        reader = await checked_blobs.open_read(digest)
        assert reader is not None
        with pytest.raises(DanglingReference):
            await reader.read()
        await reader.seek(3)
        with pytest.raises(DanglingReference):
            await reader.read()
        assert blobs.discarded == [digest, digest]

    async def test_of_a_batch_only_the_blob_that_the_service_names_is_discarded(
        self, blobs: Blobs, checked_blobs: CheckedBlobService
    ) -> None:
        digests = [spoil(blobs, size) for size in (12, 13, 14)]
        blobs.fault = CorruptObject("one of them is corrupt", expected=str(digests[1]))
        with pytest.raises(CorruptObject):
            await checked_blobs.get_many(digests)
        assert blobs.discarded == [digests[1]]

    async def test_a_blob_whose_list_of_chunks_is_corrupt_is_discarded(self) -> None:
        class Lists(Blobs):
            async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
                raise CorruptObject("its list is damaged")

        blobs = Lists()
        with pytest.raises(CorruptObject, match="its list is damaged"):
            await CheckedBlobService("disk", blobs).chunks(spoil(blobs, 12))
        assert len(blobs.discarded) == 1

    async def test_what_a_service_verifies_is_not_hashed_again(self) -> None:
        """It would show: the service gives what is wrong, as none should that states this."""
        blobs = VerifyingBlobs()
        digest = spoil(blobs, 3 * PIECE_BYTES)
        service = CheckedBlobService("disk", blobs)
        found = await service.get_many([digest, EMPTY_DIGEST, HELLOWORLD_BLOB.digest])
        assert list(found) == [blobs.blobs[digest], b"", None]
        reader = await service.open_read(digest)
        assert reader is not None
        assert await read_at_most(reader, MIB, "blob") == blobs.blobs[digest]

    async def test_what_a_service_that_verifies_finds_corrupt_while_it_is_read_is_discarded(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def read(self: BytesReader, max_bytes: int = 0) -> bytes:
            raise CorruptObject("chunk is corrupt")

        monkeypatch.setattr(BytesReader, "read", read)
        blobs = VerifyingBlobs()
        digest = spoil(blobs, 12)
        reader = await CheckedBlobService("disk", blobs).open_read(digest)
        assert reader is not None
        await reader.seek(3)
        with pytest.raises(CorruptObject, match="chunk is corrupt"):
            await reader.read()
        assert blobs.discarded == [digest]

    async def test_other_failures_discard_nothing(self, blobs: Blobs, checked_blobs: CheckedBlobService) -> None:
        digest = spoil(blobs, 12)
        blobs.fault = Unavailable("disk is on holiday")
        for read in (checked_blobs.open_read(digest), checked_blobs.get_many([digest])):
            with pytest.raises(Unavailable):
                await read
        assert blobs.discarded == []

    @pytest.mark.parametrize("batch", [False, True])
    async def test_next_put_heals(self, blobs: Blobs, checked_blobs: CheckedBlobService, batch: bool) -> None:
        digest = spoil(blobs, 12)
        with pytest.raises(CorruptObject):
            await checked_blobs.get_many([digest])
        if batch:
            await checked_blobs.put_many([HashedBlob(contents(12))])
        else:
            async with await checked_blobs.open_write() as writer:
                await writer.write(contents(12))
                await writer.close()
        assert list(await checked_blobs.get_many([digest])) == [contents(12)]

    async def test_seek_hands_the_checks_to_the_service(self, blobs: Blobs, checked_blobs: CheckedBlobService) -> None:
        digest = spoil(blobs, 12)
        reader = await checked_blobs.open_read(digest)
        assert reader is not None
        await reader.seek(2)
        assert await reader.read(3) == contents(12)[2:5]
        assert await reader.read(100) == blobs.blobs[digest][5:]

    async def test_last_portion_of_a_large_corrupt_blob_is_withheld(
        self, blobs: Blobs, checked_blobs: CheckedBlobService
    ) -> None:
        size = 9 * MIB + 5
        digest = spoil(blobs, size)
        reader = await checked_blobs.open_read(digest)
        assert reader is not None
        delivered = b""
        with pytest.raises(CorruptObject):  # noqa: PT012
            while piece := await reader.read(MIB):
                delivered += piece
        assert 5 * MIB <= len(delivered) < size
        assert contents(size).startswith(delivered)
        assert blobs.discarded == [digest]

    async def test_reading_the_start_of_a_blob_reads_little_of_it(
        self, blobs: Blobs, checked_blobs: CheckedBlobService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        read = BytesReader.read

        async def counting(self: BytesReader, max_bytes: int = PIECE_BYTES) -> bytes:
            asked.append(max_bytes)
            return await read(self, max_bytes)

        monkeypatch.setattr(BytesReader, "read", counting)
        await checked_blobs.put_many([HashedBlob(contents(20 * MIB))])
        reader = await checked_blobs.open_read(B3Digest.of(contents(20 * MIB)))
        assert reader is not None
        assert await reader.read(10) == contents(20 * MIB)[:10]
        assert sum(asked) <= MIB
        await reader.aclose()

    async def test_a_read_that_is_cancelled_loses_nothing(
        self, blobs: Blobs, checked_blobs: CheckedBlobService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = BytesReader.read
        n_reads = 0
        hang = Hang()

        async def hanging_once(self: BytesReader, max_bytes: int = PIECE_BYTES) -> bytes:
            nonlocal n_reads
            n_reads += 1
            if n_reads == 4:
                await hang()
            return await read(self, max_bytes)

        monkeypatch.setattr(BytesReader, "read", hanging_once)
        data = contents(5 * MIB)
        await checked_blobs.put_many([HashedBlob(data)])
        reader = await checked_blobs.open_read(B3Digest.of(data))
        assert reader is not None
        delivered = await reader.read(MIB)
        reading = asyncio.create_task(read_at_most(reader, 5 * MIB, "blob"))
        await hang.called.wait()
        reading.cancel()
        await asyncio.wait([reading])
        while piece := await reader.read(MIB):
            delivered = piece
        assert data.endswith(delivered)

    async def test_small_reads_join_up(self, checked_blobs: CheckedBlobService) -> None:
        data = contents(2 * PIECE_BYTES + 77)
        async with await checked_blobs.open_write() as writer:
            await writer.write(data)
            digest = await writer.close()
        reader = await checked_blobs.open_read(digest)
        assert reader is not None
        pieces = []
        while piece := await reader.read(10_000):
            pieces.append(piece)
        assert max(map(len, pieces)) <= 10_000
        assert b"".join(pieces) == data

    async def test_blob_longer_than_asked_for_is_refused(
        self, blobs: Blobs, checked_blobs: CheckedBlobService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def get_many(digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES) -> list[bytes]:
            return [contents(12)]

        monkeypatch.setattr(blobs, "get_many", get_many)
        with pytest.raises(LimitExceeded, match=r"disk: blob .* is longer than the 11 bytes asked for"):
            await checked_blobs.get_many([B3Digest.of(contents(12))], max_blob_bytes=11)
        assert blobs.discarded == []

    @pytest.mark.parametrize("method", ["get_many", "has_many"])
    async def test_wrong_number_of_answers_is_refused(
        self, blobs: Blobs, checked_blobs: CheckedBlobService, monkeypatch: pytest.MonkeyPatch, method: str
    ) -> None:
        async def answer_once(digests: Sequence[B3Digest], **limits: int) -> list[None]:
            return [None]

        monkeypatch.setattr(blobs, method, answer_once)
        with pytest.raises(CorruptObject, match="disk: 1 answers to 2 questions"):
            await getattr(checked_blobs, method)([HELLOWORLD_BLOB.digest, HELLOWORLD_BLOB.digest])

    async def test_upload_that_got_another_digest_is_refused(
        self, blobs: Blobs, checked_blobs: CheckedBlobService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Writer(BlobWriter):
            async def write(self, data: bytes) -> None:
                pass

            async def close(self) -> B3Digest:
                return EMPTY_DIGEST

        async def open_write() -> BlobWriter:
            return Writer()

        monkeypatch.setattr(blobs, "open_write", open_write)
        async with await checked_blobs.open_write() as writer:
            await writer.write(b"Hello ")
            await writer.write(b"World!")
            with pytest.raises(CorruptObject) as caught:
                await writer.close()
        assert (caught.value.expected, caught.value.actual) == (str(HELLOWORLD_BLOB.digest), str(EMPTY_DIGEST))

    async def test_empty_blob_is_there_and_never_stored(self, blobs: Blobs, checked_blobs: CheckedBlobService) -> None:
        blobs.fault = Unavailable("not asked")
        assert await checked_blobs.has(EMPTY_DIGEST)
        assert list(await checked_blobs.has_many([EMPTY_DIGEST, HELLOWORLD_BLOB.digest])) == [True, False]
        assert await checked_blobs.chunks(EMPTY_DIGEST) == []
        reader = await checked_blobs.open_read(EMPTY_DIGEST)
        assert reader is not None
        assert await reader.read() == b""
        await checked_blobs.put_many([HashedBlob(b"")])
        assert blobs.blobs == {}

    async def test_the_rest_is_passed_on(self, blobs: Blobs, checked_blobs: CheckedBlobService) -> None:
        assert checked_blobs.capabilities == blobs.capabilities
        with pytest.raises(Unsupported, match="Blobs cannot list blobs"):
            checked_blobs.list()
        with pytest.raises(Unsupported, match="Blobs cannot delete blobs"):
            await checked_blobs.delete([EMPTY_DIGEST])
        await checked_blobs.discard_corrupt(EMPTY_DIGEST)
        await checked_blobs.aclose()
        assert (blobs.discarded, blobs.closed) == ([EMPTY_DIGEST], 1)
