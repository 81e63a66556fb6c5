"""Statistics and the durability barrier of the services in SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tvix_store.capabilities import Durability
from tvix_store.chunking import cut
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.limits import MIB
from tvix_store.nodes import Directory, SymlinkNode
from tvix_store.testing.blob_access import list_blobs, write_blob
from tvix_store.testing.fixtures import PATH_INFO, contents
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.directory import SqliteDirectoryService
from tvix_store_sqlite.path_info import SqlitePathInfoService

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with await Database.open(str(tmp_path / "store.sqlite")) as database:
        yield database


async def test_what_blobs_have_in_common_counts_once(database: Database) -> None:
    service = SqliteBlobService("test", database)
    one, two = contents(3 * MIB) + b"one", contents(3 * MIB) + b"two"
    for data in (one, two, b"small", b"small"):
        await write_blob(service, data)
    stats = await service.stats()
    assert (stats.objects, stats.logical_bytes) == (3, len(one) + len(two) + 5)
    assert stats.unique_bytes == sum({B3Digest.of(piece): len(piece) for piece in [*cut(one), *cut(two)]}.values()) + 5
    assert stats.unique_bytes < 4 * MIB


async def test_what_is_not_finished_or_deleted_does_not_count(database: Database) -> None:
    service = SqliteBlobService("test", database)
    kept, gone = await write_blob(service, contents(2 * MIB, 1)), await write_blob(service, contents(2 * MIB, 2))
    await service.delete([gone])
    async with await service.open_write() as writer:
        for seed in range(3, 9):
            await writer.write(contents(2 * MIB, seed))
        stats = await service.stats()
    assert (stats.objects, stats.logical_bytes, stats.unique_bytes) == (1, 2 * MIB, 2 * MIB)
    assert await list_blobs(service) == [kept]


async def test_a_piece_that_is_a_blob_as_well_counts_for_both(database: Database) -> None:
    service = SqliteBlobService("test", database)
    data = contents(2 * MIB)
    await write_blob(service, data)
    piece = bytes(cut(data)[0])
    await write_blob(service, piece)
    stats = await service.stats()
    assert stats.objects == len(await list_blobs(service)) == 2
    assert (stats.logical_bytes, stats.unique_bytes) == (2 * MIB + len(piece), 2 * MIB)


async def test_each_blob_that_shares_what_is_damaged_is_found(database: Database) -> None:
    service = SqliteBlobService("test", database)
    shared = contents(3 * MIB)
    digests = [await write_blob(service, shared, b"one"), await write_blob(service, shared, b"two")]
    await write_blob(service, contents(3 * MIB, 1))
    piece = B3Digest.of(cut(shared)[0]).raw
    await database.write(lambda c: c.execute("UPDATE content SET data = x'ff' WHERE digest = ?", (piece,)))
    assert sorted([str(damage.digest) async for damage in service.verify()]) == sorted(map(str, digests))
    assert [damage async for damage in service.verify()] == []
    assert (await service.stats()).objects == 1


async def test_the_file_counts_with_its_log(database: Database) -> None:
    await SqliteBlobService("test", database).put_many([HashedBlob(contents(100_000, seed)) for seed in range(10)])
    stats = await SqliteBlobService("test", database).stats()
    files = [Path(database.path), Path(f"{database.path}-wal")]
    assert stats.stored_bytes == sum(file.stat().st_size for file in files) > MIB
    assert stats.details == (("database", database.path),)


async def test_metadata_counts_its_encodings(database: Database) -> None:
    directory = Directory([(b"link", SymlinkNode(b"target"))])
    directories = SqliteDirectoryService("test", database)
    await directories.put_many([directory, Directory()])
    await SqlitePathInfoService("test", database).put(PATH_INFO)
    stats = await directories.stats()
    assert (stats.objects, stats.logical_bytes) == (2, len(directory.encode()))
    assert (await SqlitePathInfoService("test", database).stats()).objects == 1


@pytest.mark.parametrize(
    ("durability", "commits"), [(Durability.NONE, 0), (Durability.BATCHED, 1), (Durability.COMMIT, 0)]
)
async def test_sync_is_one_transaction_where_puts_do_not_wait(
    tmp_path: Path, durability: Durability, commits: int
) -> None:
    async with await Database.open(str(tmp_path / "store.sqlite"), durability=durability) as database:
        for service in (SqliteBlobService("test", database), SqliteDirectoryService("test", database)):
            before = database.commits
            await service.sync()
            assert database.commits == before + commits
