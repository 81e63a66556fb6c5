"""How blobs are cut, shared, listed and removed in SQLite."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tvix_store.capabilities import Capabilities, Durability
from tvix_store.chunking import cut
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import DanglingReference, LimitExceeded
from tvix_store.limits import KIB, MIB
from tvix_store.testing.blob_access import assert_absent, list_blobs, read_blob, read_rest, write_blob
from tvix_store.testing.fixtures import contents
from tvix_store_sqlite import blob
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database

pytestmark = pytest.mark.anyio

CHILD = Path(__file__).with_name("child.py")


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[SqliteBlobService]:
    async with await Database.open(str(tmp_path / "store.sqlite")) as database:
        yield SqliteBlobService("test", database)


async def count(service: SqliteBlobService, table: str) -> int:
    (number,) = await service.database.read(lambda c: c.execute(f"SELECT count(*) FROM {table}").fetchone())
    return int(number)


async def test_capabilities(service: SqliteBlobService) -> None:
    assert service.capabilities == Capabilities(list=True, delete=True, chunks=True, durability=Durability.COMMIT)


@pytest.mark.parametrize("size", [128 * KIB + 1, 600 * KIB, 1 * MIB, 5 * MIB])
async def test_chunks_are_those_that_core_cuts(service: SqliteBlobService, size: int) -> None:
    data = contents(size)
    expected = [(B3Digest.of(chunk), len(chunk)) for chunk in cut(data)]
    written = await write_blob(service, data)
    chunks = await service.chunks(written)
    assert chunks is not None
    assert [(chunk.digest, chunk.size) for chunk in chunks] == (expected if len(expected) > 1 else [])


async def test_batches_are_cut_as_streams_are(service: SqliteBlobService, tmp_path: Path) -> None:
    blobs = [HashedBlob(contents(size)) for size in (0, 1, 128 * KIB, 300 * KIB, 1 * MIB, 5 * MIB)]
    await service.put_many(blobs)
    async with await Database.open(str(tmp_path / "streamed.sqlite")) as database:
        streamed = SqliteBlobService("streamed", database)
        for item in blobs:
            await write_blob(streamed, item.data)
            assert await service.chunks(item.digest) == await streamed.chunks(item.digest)
        for table in ("content", "piece", "blob", "chunk"):
            assert await count(service, table) == await count(streamed, table)


async def test_blobs_share_chunks(service: SqliteBlobService) -> None:
    data = contents(6 * MIB)
    await write_blob(service, data)
    before = await count(service, "content")
    await write_blob(service, data + b"a little more")
    assert await count(service, "content") - before == 1


async def test_a_batch_is_one_transaction(service: SqliteBlobService) -> None:
    before = service.database.commits
    await service.put_many([HashedBlob(contents(size, 3)) for size in (*range(1, 900), 300 * KIB, 2 * MIB)])
    assert service.database.commits - before == 1


async def test_many_callers_share_transactions(service: SqliteBlobService) -> None:
    before = service.database.commits
    await asyncio.gather(*(service.put_many([HashedBlob(b"%d" % number)]) for number in range(200)))
    assert service.database.commits - before < 20


async def test_listing_in_pages_is_in_order_and_whole(
    service: SqliteBlobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob, "_LIST_PAGE", 7)
    blobs = [HashedBlob(contents(size)) for size in (*range(50), 3 * MIB, 4 * MIB)]
    await service.put_many(blobs)
    listed = [digest async for digest in service.list()]
    assert listed == sorted(item.digest for item in blobs)


async def test_listing_goes_on_while_blobs_come_and_go(
    service: SqliteBlobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob, "_LIST_PAGE", 7)
    blobs = [HashedBlob(b"%d" % number) for number in range(60)]
    await service.put_many(blobs)
    kept, deleted = blobs[:30], blobs[30:]
    listed: list[B3Digest] = []
    async for digest in service.list():
        listed.append(digest)
        if len(listed) == 10:
            await service.delete([item.digest for item in deleted])
            await service.put_many([HashedBlob(b"new")])
    assert len(set(listed)) == len(listed)
    assert {item.digest for item in kept} <= set(listed)


async def test_chunks_become_blobs_and_chunks_again(service: SqliteBlobService) -> None:
    data = contents(2 * MIB)
    whole = await write_blob(service, data)
    chunk = HashedBlob(bytes(cut(data)[1]))
    assert await list_blobs(service) == [whole]
    await service.put_many([chunk])
    assert await list_blobs(service) == sorted([whole, chunk.digest])
    await service.delete([chunk.digest])
    assert await list_blobs(service) == [whole]
    assert await service.has(chunk.digest)  # as a chunk
    await service.delete([chunk.digest])
    assert await read_blob(service, whole) == data
    await service.delete([whole])
    await assert_absent(service, chunk.digest)
    assert await count(service, "content") == await count(service, "piece") == 0


async def test_deleting_a_large_blob_leaves_no_rows(service: SqliteBlobService) -> None:
    digest = await write_blob(service, contents(40 * MIB))
    await service.delete([digest])
    assert [await count(service, table) for table in ("content", "piece", "blob", "chunk")] == [0, 0, 0, 0]


async def test_long_blobs_are_refused_with_their_size(service: SqliteBlobService) -> None:
    whole = HashedBlob(contents(1000))
    chunked = HashedBlob(contents(3 * MIB))
    await service.put_many([whole, chunked])
    with pytest.raises(LimitExceeded, match=f"blob .* has 1000 bytes, more than the {999}"):
        await service.get_many([whole.digest], max_blob_bytes=999)
    with pytest.raises(LimitExceeded, match=f"has {3 * MIB} bytes"):
        await service.get_many([whole.digest, chunked.digest])
    assert list(await service.get_many([chunked.digest], max_blob_bytes=3 * MIB)) == [chunked.data]


async def test_reading_a_blob_that_is_deleted_meanwhile_fails(service: SqliteBlobService) -> None:
    digest = await write_blob(service, contents(5 * MIB))
    reader = await service.open_read(digest)
    assert reader is not None
    async with reader:
        assert await reader.read()
        await service.delete([digest])
        with pytest.raises(DanglingReference, match="does not exist any more"):
            await read_rest(reader)


async def test_large_blobs_pass_through_little_memory(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, CHILD, "move-much", tmp_path / "store.sqlite", str(64 * MIB), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert int(output) < 40 * KIB  # in KiB
