"""Blobs that are looked at once more: each row of the table in the README."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fakes.recorder import Recorder
from plugins.guard.damaged import DamagedBlobs
from tvix_store.around import AroundBlobService
from tvix_store.blob import BlobReader, BlobService, ChunkMeta
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, OutOfSpace, Unavailable
from tvix_store.limits import MIB, SMALL_BLOB_BYTES
from tvix_store.testing.blob_access import read_blob, read_rest, write_blob
from tvix_store.testing.fixtures import contents
from tvix_store_guard.quarantine import Quarantine
from tvix_store_guard.verify_blob import VerifyBlobService
from tvix_store_memory.blob import MemoryBlobService

pytestmark = pytest.mark.anyio

BLOBS = [HashedBlob(contents(2000, seed)) for seed in range(4)]
DIGESTS = [blob.digest for blob in BLOBS]
DATAS = [blob.data for blob in BLOBS]
LARGE = contents(3 * MIB)
LARGE_DIGEST = B3Digest.of(LARGE)


@pytest.fixture(params=[False, True], ids=["checked by core", "said to verify"])
async def inner(request: pytest.FixtureRequest) -> DamagedBlobs:
    inner = DamagedBlobs(boasts=request.param)
    await inner.put_many(BLOBS)
    await write_blob(inner, LARGE)
    return inner


@pytest.fixture
async def refetch() -> MemoryBlobService:
    refetch = MemoryBlobService()
    await refetch.put_many(BLOBS)
    await write_blob(refetch, LARGE)
    return refetch


# Reading


async def test_what_is_corrupt_in_a_batch_is_replaced(inner: DamagedBlobs, refetch: MemoryBlobService) -> None:
    inner.damage(*DIGESTS[1:3])
    async with VerifyBlobService("guard", inner, refetch=refetch) as service:
        assert list(await service.get_many([*DIGESTS, *DIGESTS])) == DATAS * 2
    assert list(await inner.get_many(DIGESTS)) == DATAS


async def test_what_is_absent_stays_absent(inner: DamagedBlobs, refetch: MemoryBlobService) -> None:
    await inner.delete(DIGESTS)
    service = VerifyBlobService("guard", inner, refetch=refetch)
    assert list(await service.get_many(DIGESTS)) == [None] * 4
    assert await service.open_read(DIGESTS[0]) is None
    assert list(await service.has_many(DIGESTS)) == [False] * 4


async def test_a_stream_goes_on_with_a_sound_copy(inner: DamagedBlobs, refetch: MemoryBlobService) -> None:
    inner.damage(LARGE_DIGEST)
    async with VerifyBlobService("guard", inner, refetch=refetch) as service:
        assert await read_blob(service, LARGE_DIGEST) == LARGE
    assert await read_blob(inner, LARGE_DIGEST) == LARGE


async def test_a_stream_that_began_wrong_fails_but_heals(inner: DamagedBlobs, refetch: MemoryBlobService) -> None:
    inner.damage(LARGE_DIGEST, at=0)
    async with VerifyBlobService("guard", inner, refetch=refetch) as service:
        with pytest.raises(CorruptObject):
            await read_blob(service, LARGE_DIGEST)
        assert await read_blob(service, LARGE_DIGEST) == LARGE


async def test_a_stream_may_be_sought(inner: DamagedBlobs, refetch: MemoryBlobService) -> None:
    async with VerifyBlobService("guard", inner, refetch=refetch) as service:
        reader = await service.open_read(LARGE_DIGEST)
        assert reader is not None
        async with reader:
            await reader.read(100)
            await reader.seek(1000)
            assert await read_rest(reader) == LARGE[1000:]


async def test_without_refetch_the_error_stays(inner: DamagedBlobs) -> None:
    inner.damage(DIGESTS[0], LARGE_DIGEST)
    service = VerifyBlobService("guard", inner)
    with pytest.raises(CorruptObject):
        await service.get_many(DIGESTS)
    with pytest.raises(CorruptObject):
        await read_blob(service, LARGE_DIGEST)


async def test_what_refetch_lacks_stays_an_error(inner: DamagedBlobs) -> None:
    inner.damage(DIGESTS[0], LARGE_DIGEST)
    async with VerifyBlobService("guard", inner, refetch=MemoryBlobService()) as service:
        with pytest.raises(CorruptObject):
            await service.get_many(DIGESTS)
        with pytest.raises(CorruptObject):
            await read_blob(service, LARGE_DIGEST)


@pytest.mark.parametrize("n_copies", [3, 4])
async def test_if_it_is_not_known_which_one_is_wrong_all_are_replaced(n_copies: int) -> None:
    class Vague(DamagedBlobs):
        async def get_many(
            self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
        ) -> Sequence[bytes | None]:
            raise CorruptObject("one of them is rotten")

    refetch = MemoryBlobService()
    await refetch.put_many(BLOBS[:n_copies])
    service = VerifyBlobService("guard", Vague(), refetch=refetch)
    if n_copies == len(BLOBS):
        assert list(await service.get_many(DIGESTS)) == DATAS
    else:
        with pytest.raises(CorruptObject, match="one of them is rotten"):
            await service.get_many(DIGESTS)


async def test_a_failure_of_refetch_is_the_cause_of_the_error(inner: DamagedBlobs, refetch: MemoryBlobService) -> None:
    inner.damage(DIGESTS[0], LARGE_DIGEST)
    recorder = Recorder()
    recorder.failure = Unavailable("the line is cut")
    async with VerifyBlobService("guard", inner, refetch=AroundBlobService(refetch, recorder)) as service:
        with pytest.raises(CorruptObject) as caught:
            await service.get_many(DIGESTS)
        assert caught.value.__cause__ is recorder.failure
        with pytest.raises(CorruptObject) as caught:
            await read_blob(service, LARGE_DIGEST)
        assert caught.value.__cause__ is recorder.failure


async def test_a_batch_is_answered_though_it_cannot_be_put_back(
    inner: DamagedBlobs, refetch: MemoryBlobService
) -> None:
    recorder = Recorder()
    recorder.failure, recorder.failing = OutOfSpace("full"), ["put_many", "open_write"]
    inner.damage(DIGESTS[0], LARGE_DIGEST)
    async with VerifyBlobService("guard", AroundBlobService(inner, recorder), refetch=refetch) as service:
        assert list(await service.get_many(DIGESTS)) == DATAS
        with pytest.raises(CorruptObject):  # a stream goes on with what was stored, and nothing was
            await read_blob(service, LARGE_DIGEST)


async def test_who_finds_it_at_the_same_time_shares_a_copy(inner: DamagedBlobs, refetch: MemoryBlobService) -> None:
    recorder = Recorder()
    inner.damage(LARGE_DIGEST)
    async with VerifyBlobService("guard", inner, refetch=AroundBlobService(refetch, recorder)) as service:
        await inner.discard_corrupt(LARGE_DIGEST)
        await asyncio.gather(*(service.heal(LARGE_DIGEST, CorruptObject("rotten")) for _ in range(3)))
    assert recorder.methods.count("open_read") == 1
    assert await read_blob(inner, LARGE_DIGEST) == LARGE


async def test_batches_stay_batches(inner: DamagedBlobs, refetch: MemoryBlobService) -> None:
    asked, fetched = Recorder(), Recorder()
    around = AroundBlobService(inner, asked)
    async with VerifyBlobService("guard", around, refetch=AroundBlobService(refetch, fetched)) as service:
        await service.get_many(DIGESTS)
        inner.damage(DIGESTS[1])
        await service.get_many(DIGESTS)
    calls = [call for call in asked.calls if call[0] != "discard_corrupt"]
    assert calls == [("get_many", 4), ("get_many", 4), ("put_many", 1), ("get_many", 3)]
    assert fetched.calls == [("get_many", 1)]


async def test_reads_can_be_left_alone(refetch: MemoryBlobService) -> None:
    inner = DamagedBlobs()
    await inner.put_many(BLOBS)
    inner.damage(DIGESTS[0])
    with pytest.raises(CorruptObject):
        await VerifyBlobService("guard", inner, refetch=refetch, on_get=False).get_many(DIGESTS)
    recorder = Recorder()
    service = VerifyBlobService("guard", AroundBlobService(inner, recorder), on_get=False)
    recorder.failure = CorruptObject("rotten")
    with pytest.raises(CorruptObject):
        await service.chunks(DIGESTS[0])


async def test_the_list_of_chunks_is_healed(refetch: MemoryBlobService) -> None:
    class Listing(DamagedBlobs):
        is_wrong = True

        async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
            if self.is_wrong:
                self.is_wrong = False
                raise CorruptObject("the list is damaged")
            return await super().chunks(digest)

    async with VerifyBlobService("guard", Listing(), refetch=refetch) as service:
        assert await service.chunks(DIGESTS[0]) == []


# Putting


class Losing(DamagedBlobs):
    """Stores something else, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        await super().put_many(blobs)
        if self.times > 0:
            self.times -= 1
            self.damage(DIGESTS[0])


class Forgetting(MemoryBlobService):
    """Stores nothing."""

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        pass

    async def has(self, digest: B3Digest) -> bool:
        return False


async def test_a_batch_that_is_stored_wrong_is_put_once_more() -> None:
    inner = Losing(1)
    await VerifyBlobService("guard", inner).put_many(BLOBS)
    assert list(await inner.get_many(DIGESTS)) == DATAS


async def test_a_batch_that_is_stored_wrong_twice_is_an_error() -> None:
    with pytest.raises(CorruptObject):
        await VerifyBlobService("guard", Losing(2)).put_many(BLOBS)


async def test_a_batch_that_is_not_stored_is_an_error() -> None:
    with pytest.raises(CorruptObject, match=r"^guard: blob .* is not what was put$"):
        await VerifyBlobService("guard", Forgetting()).put_many(BLOBS)
    await VerifyBlobService("guard", Forgetting(), on_put=False).put_many(BLOBS)


async def test_a_failure_to_read_back_is_a_failure() -> None:
    recorder = Recorder()
    recorder.failure, recorder.failing = Unavailable("the line is cut"), ["get_many", "open_read"]
    service = VerifyBlobService("guard", AroundBlobService(MemoryBlobService(), recorder))
    with pytest.raises(Unavailable):
        await service.put_many(BLOBS)
    with pytest.raises(Unavailable):
        await write_blob(service, LARGE)


class Rotting(DamagedBlobs):
    """Damages what is written to it, the first time that it is read."""

    is_first = True

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        if self.is_first:
            self.is_first = False
            self.damage(digest)
        return await super().open_read(digest)


async def test_a_stream_that_is_stored_wrong_is_an_error() -> None:
    async with VerifyBlobService("guard", Rotting()) as service:
        with pytest.raises(CorruptObject):
            await write_blob(service, LARGE)


async def test_a_stream_that_is_stored_wrong_is_healed(refetch: MemoryBlobService) -> None:
    inner = Rotting()
    async with VerifyBlobService("guard", inner, refetch=refetch) as service:
        assert await write_blob(service, LARGE) == LARGE_DIGEST
    assert await read_blob(inner, LARGE_DIGEST) == LARGE


async def test_a_stream_is_not_read_back_if_that_is_not_wanted() -> None:
    recorder = Recorder()
    service = VerifyBlobService("guard", AroundBlobService(MemoryBlobService(), recorder), on_put=False)
    await write_blob(service, LARGE)
    assert "open_read" not in recorder.methods


# What else there is


async def test_what_is_corrupt_is_written_down(inner: DamagedBlobs, refetch: BlobService, tmp_path: Path) -> None:
    quarantine = Quarantine("guard", str(tmp_path / "deep" / "down"), 10_000)
    inner.damage(DIGESTS[1])
    async with VerifyBlobService("guard", inner, refetch=refetch, quarantine=quarantine) as service:
        await service.get_many(DIGESTS)
    (line,) = (tmp_path / "deep" / "down" / "corrupt.jsonl").read_text().splitlines()
    finding = json.loads(line)
    assert (finding["entry"], finding["kind"], finding["digest"]) == ("guard", "blob", str(DIGESTS[1]))
    assert "corrupt" in finding["reason"]


async def test_what_verifying_finds_is_written_down(tmp_path: Path) -> None:
    inner = DamagedBlobs()
    await inner.put_many(BLOBS)
    inner.damage(DIGESTS[2])
    service = VerifyBlobService("guard", inner, quarantine=Quarantine("guard", str(tmp_path), 10_000))
    assert [damage.digest async for damage in service.verify()] == [str(DIGESTS[2])]
    assert str(DIGESTS[2]) in (tmp_path / "corrupt.jsonl").read_text()


def test_it_states_what_the_service_states() -> None:
    for inner in (DamagedBlobs(), DamagedBlobs(boasts=True)):
        assert VerifyBlobService("guard", inner).capabilities == inner.capabilities
