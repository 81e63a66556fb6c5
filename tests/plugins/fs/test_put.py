"""How blobs become pieces, frames and lists: cut, grouped, and stored once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from plugins.fs.fs_store import open_service, pack_path, pack_sizes, placed
from tvix_store.chunking import cut
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import LimitExceeded
from tvix_store.limits import KIB, MIB
from tvix_store.testing.blob_access import assert_absent, list_blobs, read_blob, write_blob
from tvix_store.testing.fixtures import contents
from tvix_store_fs import upkeep
from tvix_store_fs.blob import FsBlobService
from tvix_store_fs.encoding import FRAME_BYTES
from tvix_store_fs.frame import Codec
from tvix_store_fs.index import Place
from vectors.chunking import CUTS

pytestmark = pytest.mark.anyio

LARGE = contents(3 * MIB)
CHUNKS = [bytes(chunk) for chunk in cut(LARGE)]
TWICE = bytes(8 * MIB)
"""Its chunks are all the same."""


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[FsBlobService]:
    async with await open_service(tmp_path) as service:
        yield service


async def put(service: FsBlobService, *datas: bytes) -> Sequence[B3Digest]:
    blobs = [HashedBlob(data) for data in datas]
    await service.put_many(blobs)
    return [blob.digest for blob in blobs]


async def store_size(service: FsBlobService) -> tuple[int, int]:
    """Bytes in packs, and pieces that can be seen."""
    totals = await service.store.read(upkeep.totals)
    return sum(pack_sizes(Path(service.store.layout.path)).values()), totals.pieces


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("streamed", [False, True], ids=["batch", "stream"])
async def test_cut_points_are_those_of_the_rust_stores(tmp_path: Path, name: str, streamed: bool) -> None:
    vector = CUTS[name]
    async with await open_service(tmp_path / "store", avg_chunk_size=vector.average) as service:
        digest = await write_blob(service, vector.data) if streamed else (await put(service, vector.data))[0]
        chunks = await service.chunks(digest)
        assert chunks is not None
        lengths = [chunk.size for chunk in chunks]
        assert lengths == (list(vector.lengths) if len(vector.lengths) > 1 else [])
        if lengths:
            assert {number: chunks[number].digest.raw.hex() for number in vector.digests} == vector.digests
        assert await read_blob(service, digest) == vector.data


@pytest.mark.parametrize("data", [b"", b"small", bytes(300 * KIB), LARGE, TWICE], ids=len)
@pytest.mark.parametrize("streamed", [False, True], ids=["batch", "stream"])
async def test_the_same_blob_again_writes_nothing(service: FsBlobService, data: bytes, streamed: bool) -> None:
    (digest,) = await put(service, data)
    before = await store_size(service)
    again = await write_blob(service, data) if streamed else (await put(service, data, data))[0]
    assert again == digest
    assert await store_size(service) == before


async def test_a_batch_with_the_same_blob_twice_stores_it_once(service: FsBlobService) -> None:
    await put(service, CHUNKS[0], b"a", CHUNKS[0], LARGE, LARGE, b"a")
    assert (await store_size(service))[1] == 1 + len(CHUNKS)
    assert len(await list_blobs(service)) == 3


async def test_the_same_batch_many_times_at_once_is_stored_once(service: FsBlobService) -> None:
    datas = [contents(1000, seed) for seed in range(100)]
    await put(service, b"before")
    before, _ = await store_size(service)
    await asyncio.gather(*(put(service, *datas) for _ in range(8)))
    after, pieces = await store_size(service)
    assert pieces == 101
    assert after - before < 110_000


async def test_large_blobs_share_chunks(service: FsBlobService) -> None:
    await put(service, LARGE)
    before, pieces = await store_size(service)
    (other,) = await put(service, LARGE[: 2 * MIB] + b"other" + LARGE[2 * MIB :])
    after, more_pieces = await store_size(service)
    assert more_pieces - pieces <= 2
    assert after - before < MIB
    assert await read_blob(service, other) == LARGE[: 2 * MIB] + b"other" + LARGE[2 * MIB :]


async def test_a_chunk_that_repeats_is_stored_once(service: FsBlobService) -> None:
    (digest,) = await put(service, TWICE)
    chunks = await service.chunks(digest)
    assert chunks is not None
    assert len(chunks) == 16
    assert (await store_size(service))[1] == 1
    assert await read_blob(service, digest) == TWICE


@pytest.mark.parametrize("chunk_first", [False, True])
async def test_a_blob_may_be_a_chunk_of_another(service: FsBlobService, chunk_first: bool, tmp_path: Path) -> None:
    small, large = HashedBlob(CHUNKS[2]), HashedBlob(LARGE)
    for blob in (small, large) if chunk_first else (large, small):
        await service.put_many([blob])
    assert (await store_size(service))[1] == len(CHUNKS)
    assert await list_blobs(service) == sorted([small.digest, large.digest])
    assert await service.chunks(small.digest) == []
    await service.delete([large.digest])
    assert await list_blobs(service) == [small.digest]
    assert list(await service.get_many([small.digest])) == [small.data]
    await assert_absent(service, B3Digest.of(CHUNKS[1]))
    await service.compact()
    assert list(await service.get_many([small.digest])) == [small.data]
    await service.aclose()
    (tmp_path / "index.sqlite").unlink()
    async with await open_service(tmp_path) as again:
        assert small.digest in await list_blobs(again)
        assert await read_blob(again, small.digest) == small.data


@pytest.mark.parametrize("chunk_first", [False, True])
async def test_a_chunk_outlives_the_blob_that_it_is_by_itself(service: FsBlobService, chunk_first: bool) -> None:
    small, large = HashedBlob(CHUNKS[2]), HashedBlob(LARGE)
    for blob in (small, large) if chunk_first else (large, small):
        await service.put_many([blob])
    await service.delete([small.digest])
    assert await list_blobs(service) == [large.digest]
    await service.compact()
    assert await read_blob(service, large.digest) == LARGE


async def test_deleting_one_of_two_that_share_chunks(service: FsBlobService) -> None:
    other = LARGE[: 2 * MIB] + b"other"
    one, two = await put(service, LARGE, other)
    await service.delete([one, one])
    await assert_absent(service, one)
    assert await read_blob(service, two) == other
    shared, gone = B3Digest.of(CHUNKS[0]), B3Digest.of(CHUNKS[-1])
    assert list(await service.has_many([shared, gone])) == [True, False]
    await service.delete([two])
    assert await list_blobs(service) == []
    assert (await store_size(service))[1] == 0


async def test_what_was_deleted_can_be_put_again(service: FsBlobService) -> None:
    for _ in range(3):
        digests = await put(service, LARGE, b"small")
        assert [await read_blob(service, digest) for digest in digests] == [LARGE, b"small"]
        await service.delete(digests)
        assert await list_blobs(service) == []


async def codec(service: FsBlobService, place: Place) -> int:
    header, _ = await asyncio.to_thread(service.store.reader.read_stored, place)
    return header.codec


async def test_what_does_not_compress_is_stored_as_it_is(service: FsBlobService) -> None:
    random, text = contents(100 * KIB), b"text " * 10_000
    for data, expected in ((random, Codec.RAW), (text, Codec.ZSTD)):
        (digest,) = await put(service, data)
        assert await codec(service, await placed(service.store, digest)) == expected
    pack = await asyncio.to_thread(pack_path(Path(service.store.layout.path)).read_bytes)
    assert random in pack
    assert text not in pack


async def test_small_blobs_share_frames_in_the_order_they_came(service: FsBlobService) -> None:
    digests = await put(service, *(contents(10 * KIB, seed) for seed in range(200)))
    frames = [(await placed(service.store, digest)).position for digest in digests]
    assert frames == sorted(frames)
    assert 2000 * KIB // FRAME_BYTES <= len(set(frames)) <= 2 * 2000 * KIB // FRAME_BYTES


async def test_reading_a_batch_decodes_each_frame_once(service: FsBlobService, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = await put(service, *(contents(10 * KIB, seed) for seed in range(200)))
    frames = {(await placed(service.store, digest)).frame for digest in digests}
    reads: list[Place] = []
    read = service.store.reader.read_uncached

    def counted(place: Place) -> object:
        reads.append(place)
        return read(place)

    monkeypatch.setattr(service.store.reader, "read_uncached", counted)
    await asyncio.gather(*(service.get_many(digests) for _ in range(5)))
    assert sorted(place.frame for place in reads) == sorted(frames)


async def test_reading_from_the_middle_touches_one_frame(
    service: FsBlobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await write_blob(service, contents(20 * MIB))
    reads: list[Place] = []
    read = service.store.reader.read_uncached

    def counted(place: Place) -> object:
        reads.append(place)
        return read(place)

    monkeypatch.setattr(service.store.reader, "read_uncached", counted)
    reader = await service.open_read(digest)
    assert reader is not None
    async with reader:
        await reader.seek(11 * MIB)
        assert await reader.read(100) == contents(20 * MIB)[11 * MIB :][:100]
        assert len(reads) == 1
        await reader.seek(3 * MIB)
        assert await reader.read(100) == contents(20 * MIB)[3 * MIB :][:100]
        assert len(reads) == 2


async def test_what_is_longer_than_asked_for_is_not_loaded(
    service: FsBlobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    (digest,) = await put(service, LARGE)
    monkeypatch.setattr(service.store.reader, "read", None)
    with pytest.raises(LimitExceeded, match=r"has 3145728 bytes, more than the 1048576 asked for"):
        await service.get_many([digest])


async def test_chunks_deleted_while_others_are_put_are_stored_again(
    service: FsBlobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = await put(service, LARGE)
    prepare = service.store.prepare

    async def delete_and_prepare(*arguments: object) -> object:
        """When it has been looked up which chunks are there."""
        if await service.has(first) and arguments[0].__name__ == "_encode":  # type: ignore[attr-defined]
            await service.delete([first])
            await service.compact()
        return await prepare(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(service.store, "prepare", delete_and_prepare)
    (second,) = await put(service, LARGE + b"more")
    assert await read_blob(service, second) == LARGE + b"more"
    await assert_absent(service, first)
