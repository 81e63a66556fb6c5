"""Blobs that are being streamed: what is seen of them, and what becomes of those that do not get to their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from plugins.fs.fs_store import open_service, pack_sizes
from tvix_store.blob import BlobWriter
from tvix_store.chunking import cut
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import OutOfSpace, Unavailable
from tvix_store.limits import KIB, MIB
from tvix_store.testing.blob_access import assert_absent, list_blobs, read_blob, write_blob
from tvix_store.testing.fixtures import contents
from tvix_store_fs import index
from tvix_store_fs.blob import FsBlobService

pytestmark = pytest.mark.anyio

DATA = contents(12 * MIB)
CHUNKS = [HashedBlob(bytes(chunk)) for chunk in cut(DATA)]
DIGESTS = [chunk.digest for chunk in CHUNKS]
RAWS = [digest.raw for digest in DIGESTS]


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[FsBlobService]:
    async with await open_service(tmp_path) as service:
        yield service


async def start(service: FsBlobService, n_bytes: int = 9 * MIB) -> BlobWriter:
    """A writer that has stored chunks already."""
    writer = await service.open_write()
    await writer.write(DATA[:n_bytes])
    while sum(frame is not None for frame in await service.store.read(index.frames_with, RAWS)) < 8:
        pass  # they are stored while more is taken
    return writer


def packed(service: FsBlobService) -> int:
    return sum(pack_sizes(Path(service.store.layout.path)).values())


async def test_chunks_are_stored_as_they_come_and_are_not_seen(service: FsBlobService) -> None:
    async with await start(service) as writer:
        assert list(await service.has_many(DIGESTS)) == [False] * len(DIGESTS)
        assert list(await service.get_many(DIGESTS)) == [None] * len(DIGESTS)
        for digest in DIGESTS[:3]:
            await assert_absent(service, digest)
        assert await list_blobs(service) == []
        assert (await service.stats()).objects == 0
        await writer.write(DATA[9 * MIB :])
        assert await writer.close() == await writer.close() == B3Digest.of(DATA)
        assert list(await service.get_many(DIGESTS)) == [chunk.data for chunk in CHUNKS]
        assert await list_blobs(service) == [B3Digest.of(DATA)]
    assert await service.store.read(index.uploads) == []


@pytest.mark.parametrize("size", [0, 1, 128 * KIB + 1, 300 * KIB, 1 * MIB, 5 * MIB, 12 * MIB])
async def test_streams_are_cut_as_batches_are(service: FsBlobService, tmp_path: Path, size: int) -> None:
    digest = await write_blob(service, DATA[: size // 3], DATA[size // 3 : size])
    async with await open_service(tmp_path / "batch") as batch:
        await batch.put_many([HashedBlob(DATA[:size])])
        assert await service.chunks(digest) == await batch.chunks(digest)
    assert await read_blob(service, digest) == DATA[:size]


@pytest.mark.parametrize("size", [0, 1000, 300 * KIB, 9 * MIB])
async def test_a_writer_that_was_given_up_is_of_no_use(service: FsBlobService, size: int) -> None:
    writer = await service.open_write()
    await writer.write(DATA[:size])
    await writer.aclose()
    await writer.aclose()
    with pytest.raises(Unavailable, match="given up"):
        await writer.write(b"more")
    with pytest.raises(Unavailable, match="given up"):
        await writer.close()
    assert await list_blobs(service) == []
    assert await service.store.read(index.uploads) == []


async def test_a_writer_that_is_closed_can_be_given_up(service: FsBlobService) -> None:
    writer = await service.open_write()
    await writer.write(DATA)
    digest = await writer.close()
    await writer.aclose()
    assert await writer.close() == digest
    assert await read_blob(service, digest) == DATA


async def test_giving_up_keeps_what_others_need(service: FsBlobService) -> None:
    await service.put_many(CHUNKS[:2])
    finished = await write_blob(service, DATA[: 6 * MIB])
    writer = await start(service)
    await writer.aclose()
    await service.compact()
    assert await read_blob(service, finished) == DATA[: 6 * MIB]
    assert list(await service.get_many(DIGESTS[:2])) == [chunk.data for chunk in CHUNKS[:2]]


async def test_a_cancelled_write_makes_the_upload_fail(service: FsBlobService) -> None:
    async with await start(service) as writer:
        write = asyncio.ensure_future(writer.write(DATA))
        await asyncio.sleep(0)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
        for _ in range(2):
            with pytest.raises(Unavailable, match="interrupted"):
                await writer.close()
    await assert_absent(service, B3Digest.of(DATA))
    assert list(await service.has_many(DIGESTS)) == [False] * len(DIGESTS)


@pytest.mark.parametrize("turns", range(0, 40, 4))
async def test_a_cancelled_close_stores_all_or_nothing(service: FsBlobService, turns: int) -> None:
    async with await start(service, len(DATA)) as writer:
        close = asyncio.ensure_future(writer.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        close.cancel()
        await asyncio.wait([close])
    await service.store.database.write(lambda connection: None)  # after what was under way
    assert await read_blob(service, B3Digest.of(DATA)) in (None, DATA)
    assert await service.store.read(index.uploads) == []


async def test_the_same_blob_several_times_at_once(service: FsBlobService) -> None:
    digests = await asyncio.gather(*(write_blob(service, DATA) for _ in range(3)))
    assert set(digests) == {B3Digest.of(DATA)}
    assert await read_blob(service, digests[0]) == DATA
    await service.delete([digests[0]])
    assert list(await service.has_many(DIGESTS)) == [False] * len(DIGESTS)


async def test_chunks_that_are_there_are_not_stored_again(service: FsBlobService) -> None:
    await write_blob(service, DATA)
    before = packed(service)
    await write_blob(service, DATA + b"more")
    assert packed(service) - before < MIB


async def test_deleting_alone_takes_no_chunk_from_an_upload(service: FsBlobService) -> None:
    finished = await write_blob(service, DATA)
    async with await start(service) as writer:  # its chunks were there before
        await service.delete([finished])
        await assert_absent(service, finished)
        await writer.write(DATA[9 * MIB :])
        assert await writer.close() == finished
    assert await read_blob(service, finished) == DATA


async def test_an_upload_whose_chunks_have_gone_says_so_and_can_be_repeated(service: FsBlobService) -> None:
    finished = await write_blob(service, DATA)
    async with await start(service) as writer:
        await service.delete([finished])
        await service.compact()
        await writer.write(DATA[9 * MIB :])
        for _ in range(2):
            with pytest.raises(Unavailable, match="write it again"):
                await writer.close()
    await assert_absent(service, finished)
    assert await write_blob(service, DATA) == finished
    assert await read_blob(service, finished) == DATA


async def test_compaction_keeps_what_live_uploads_have_stored(service: FsBlobService) -> None:
    async with await start(service) as writer:
        await service.compact()
        await writer.write(DATA[9 * MIB :])
        digest = await writer.close()
    assert await read_blob(service, digest) == DATA


async def test_compaction_drops_what_an_upload_has_left(service: FsBlobService) -> None:
    await service.put_many([HashedBlob(b"something else")])
    writer = await start(service)
    await writer.aclose()
    assert packed(service) > 2 * MIB
    assert await service.compact() > MIB
    assert packed(service) < MIB
    assert await list_blobs(service) == [B3Digest.of(b"something else")]


async def test_a_store_opened_beside_leaves_uploads_alone(service: FsBlobService, tmp_path: Path) -> None:
    async with await start(service) as writer:
        async with await open_service(tmp_path) as beside:
            await beside.compact()
        await writer.write(DATA[9 * MIB :])
        await writer.close()
    assert await read_blob(service, B3Digest.of(DATA)) == DATA


async def test_uploads_end_with_the_store(tmp_path: Path) -> None:
    service = await open_service(tmp_path)
    writer = await start(service)
    await service.aclose()
    with pytest.raises(Unavailable):
        await writer.write(DATA)
    await writer.aclose()
    async with await open_service(tmp_path) as again:
        assert await list_blobs(again) == []
        assert await again.compact() > MIB
        assert await again.store.read(index.uploads) == []


async def test_a_stage_that_fails_makes_the_upload_fail(
    service: FsBlobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await start(service) as writer:
        with monkeypatch.context() as patched:

            def full(*arguments: object) -> None:
                raise OutOfSpace("no room")

            async def finish() -> None:
                await writer.write(DATA)
                await writer.close()

            patched.setattr("tvix_store_fs.pack.WritablePack.append", full)
            with pytest.raises(OutOfSpace):
                await finish()
        with pytest.raises(OutOfSpace):
            await writer.close()
    await assert_absent(service, B3Digest.of(DATA))
    assert await write_blob(service, DATA) == B3Digest.of(DATA)


async def test_an_upload_that_was_given_up_can_be_repeated_after_compaction(service: FsBlobService) -> None:
    for _ in range(2):
        writer = await start(service)
        await writer.aclose()
        await service.compact()
    assert await write_blob(service, DATA) == B3Digest.of(DATA)
    assert await read_blob(service, B3Digest.of(DATA)) == DATA


async def test_an_upload_may_rely_on_one_that_is_given_up(service: FsBlobService) -> None:
    first = await start(service)
    async with await service.open_write() as second:
        await second.write(DATA[: 9 * MIB])
        await first.aclose()
        await service.compact()
        await second.write(DATA[9 * MIB :])
        assert await second.close() == B3Digest.of(DATA)
    assert await read_blob(service, B3Digest.of(DATA)) == DATA
