"""A database that cannot grow."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import OutOfSpace
from tvix_store.limits import KIB, MIB
from tvix_store.testing.blob_access import assert_absent, list_blobs, read_blob, write_blob
from tvix_store.testing.fixtures import GOLDEN_DIRECTORIES, contents
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.directory import SqliteDirectoryService

pytestmark = pytest.mark.anyio


async def allow(database: Database, n_bytes: int) -> None:
    """Let the database grow to this size and no further; SQLite then fails as it does on a full disk."""
    await database.write(lambda c: c.execute(f"PRAGMA max_page_count = {n_bytes // (8 * KIB)}").fetchall())


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with await Database.open(str(tmp_path / "store.sqlite")) as database:
        await allow(database, 2 * MIB)
        yield database


async def test_a_batch_that_does_not_fit_is_not_stored(database: Database) -> None:
    service = SqliteBlobService("test", database)
    await service.put_many([kept := HashedBlob(contents(1000))])
    too_much = [HashedBlob(contents(100_000, seed)) for seed in range(40)]
    with pytest.raises(OutOfSpace, match=r"store\.sqlite: there is no space left"):
        await service.put_many(too_much)
    assert await list_blobs(service) == [kept.digest]
    await service.put_many(too_much[:3])
    assert await read_blob(service, too_much[2].digest) == too_much[2].data


async def test_an_upload_that_does_not_fit_leaves_nothing(database: Database) -> None:
    service = SqliteBlobService("test", database)
    data = contents(30 * MIB)
    async with await service.open_write() as writer:
        with pytest.raises(OutOfSpace):
            await writer.write(data)
        with pytest.raises(OutOfSpace):
            await writer.write(b"more")
        with pytest.raises(OutOfSpace):
            await writer.close()
    await assert_absent(service, B3Digest.of(data))
    assert await read_blob(service, await write_blob(service, data[:1_000_000])) == data[:1_000_000]


async def test_an_upload_that_fails_late_gives_its_space_back(database: Database) -> None:
    await allow(database, 20 * MIB)
    service = SqliteBlobService("test", database)
    data = contents(30 * MIB)
    with pytest.raises(OutOfSpace):
        await write_blob(service, data)
    for _ in range(2):
        digest = await write_blob(service, data[: 15 * MIB])
        await service.delete([digest])
    assert await list_blobs(service) == []


def put_row(connection: sqlite3.Connection, number: int) -> int:
    return connection.execute("INSERT INTO directory (digest, data) VALUES (?, x'')", (b"%d" % number,)).rowcount


async def test_the_others_of_a_group_are_stored(database: Database) -> None:
    service = SqliteBlobService("test", database)
    directories = SqliteDirectoryService("test", database)
    small = [database.submit(partial(put_row, number=number)) for number in range(20)]
    with pytest.raises(OutOfSpace):
        await service.put_many([HashedBlob(contents(100_000, seed)) for seed in range(40)])
    await directories.put_many(list(GOLDEN_DIRECTORIES.values()))
    assert [future.result() for future in small] == [1] * 20
    assert await service.has(HashedBlob(b"").digest) is False


async def test_there_is_room_again_once_there_is(database: Database) -> None:
    service = SqliteBlobService("test", database)
    blobs = [HashedBlob(contents(100_000, seed)) for seed in range(40)]
    with pytest.raises(OutOfSpace):
        await service.put_many(blobs)
    await allow(database, 100 * MIB)
    await service.put_many(blobs)
    assert list(await service.get_many([blob.digest for blob in blobs])) == [blob.data for blob in blobs]
