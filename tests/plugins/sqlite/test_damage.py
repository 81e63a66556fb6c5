"""Rows that are not what their keys stand for."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.chunking import cut
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, Unavailable
from tvix_store.limits import MIB
from tvix_store.nodes import Directory
from tvix_store.testing.blob_access import list_blobs, read_blob, write_blob
from tvix_store.testing.fixtures import DIRECTORY_B, DIRECTORY_D, PATH_INFO, contents, store_path
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.directory import SqliteDirectoryService
from tvix_store_sqlite.path_info import SqlitePathInfoService

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with await Database.open(str(tmp_path / "store.sqlite")) as database:
        yield database


def change(database: Database, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(database.path)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


async def test_all_blobs_with_a_damaged_chunk_are_forgotten_and_no_other(database: Database) -> None:
    service = CheckedBlobService("test", SqliteBlobService("test", database))
    shared = contents(3 * MIB)
    one, two = await write_blob(service, shared), await write_blob(service, shared + b"two")
    other = await write_blob(service, contents(3 * MIB, 9))
    change(database, "UPDATE content SET data = zeroblob(9) WHERE digest = ?", B3Digest.of(cut(shared)[1]).raw)
    with pytest.raises(CorruptObject):
        await read_blob(service, one)
    assert await list_blobs(service) == [other]
    assert await read_blob(service, other) == contents(3 * MIB, 9)
    assert await write_blob(service, shared + b"two") == two
    assert await read_blob(service, two) == shared + b"two"


async def test_an_upload_with_a_damaged_chunk_is_forgotten_too(database: Database) -> None:
    service = CheckedBlobService("test", SqliteBlobService("test", database))
    data = contents(9 * MIB)
    digest = await write_blob(service, data)
    async with await service.open_write() as writer:
        await writer.write(data[: 8 * MIB])
        await database.write(lambda connection: None)
        change(database, "UPDATE content SET data = zeroblob(9) WHERE digest = ?", B3Digest.of(cut(data)[0]).raw)
        with pytest.raises(CorruptObject):
            await read_blob(service, digest)
        await writer.write(data[8 * MIB :])
        with pytest.raises(Unavailable, match="write it again"):
            await writer.close()
    assert await write_blob(service, data) == digest
    assert await read_blob(service, digest) == data


async def test_a_missing_chunk_makes_the_blob_corrupt(database: Database) -> None:
    service = CheckedBlobService("test", SqliteBlobService("test", database))
    data = contents(2 * MIB)
    digest = await write_blob(service, data)
    change(database, "DELETE FROM content WHERE digest = ?", B3Digest.of(cut(data)[2]).raw)
    with pytest.raises(CorruptObject):
        await service.get_many([digest], max_blob_bytes=4 * MIB)
    assert await write_blob(service, data) == digest
    assert await read_blob(service, digest) == data


async def test_a_wrong_list_of_right_chunks_is_found_and_healed(database: Database) -> None:
    service = CheckedBlobService("test", SqliteBlobService("test", database))
    data = contents(2 * MIB)
    digest = await write_blob(service, data)
    first, second = (B3Digest.of(chunk).raw for chunk in cut(data)[:2])
    change(database, "UPDATE chunk SET digest = ?, size = ? WHERE position = 1", first, len(cut(data)[0]))
    with pytest.raises(CorruptObject):
        await read_blob(service, digest)
    assert not await service.has(digest)
    assert await write_blob(service, data) == digest
    assert await read_blob(service, digest) == data
    assert await service.has(B3Digest(second))


async def test_a_directory_that_does_not_decode_is_named_and_healed(database: Database) -> None:
    service = CheckedDirectoryService("disk", SqliteDirectoryService("disk", database))
    await service.put(DIRECTORY_B)
    change(database, "UPDATE directory SET data = x'ff'")
    with pytest.raises(CorruptObject, match=re.escape(f"disk: directory {DIRECTORY_B.digest} is corrupt")):
        await service.get(DIRECTORY_B.digest)
    assert await service.get(DIRECTORY_B.digest) is None
    await service.put(DIRECTORY_B)
    assert await service.get(DIRECTORY_B.digest) == DIRECTORY_B


async def test_a_put_heals_a_directory_that_nobody_looked_at(database: Database) -> None:
    service = SqliteDirectoryService("disk", database)
    await service.put(DIRECTORY_B)
    change(database, "UPDATE directory SET data = x'ff'")
    await service.put(DIRECTORY_B)
    assert await service.get(DIRECTORY_B.digest) == DIRECTORY_B


async def test_another_directory_in_its_place_is_corrupt_in_a_tree(database: Database) -> None:
    service = CheckedDirectoryService("disk", SqliteDirectoryService("disk", database))
    await service.put_many([Directory(), DIRECTORY_B, DIRECTORY_D])
    change(database, "UPDATE directory SET data = x'' WHERE digest = ?", DIRECTORY_B.digest.raw)
    with pytest.raises(CorruptObject, match="hashes to"):
        [directory async for directory in service.get_recursive(DIRECTORY_D.digest)]
    assert list(await service.get_many([DIRECTORY_B.digest, DIRECTORY_D.digest])) == [None, DIRECTORY_D]


@pytest.mark.parametrize("data", [b"\xff", b""])
async def test_a_path_info_that_does_not_decode_is_named_and_healed(database: Database, data: bytes) -> None:
    service = CheckedPathInfoService("disk", SqlitePathInfoService("disk", database))
    digest = PATH_INFO.store_path.digest
    await service.put(PATH_INFO)
    change(database, "UPDATE path_info SET data = ?", data)
    with pytest.raises(CorruptObject, match=f"disk: path info {digest.hex()} is corrupt"):
        await service.get(digest)
    assert await service.get(digest) is None
    await service.put(PATH_INFO)
    assert await service.get(digest) == PATH_INFO


async def test_a_path_info_of_another_path_is_corrupt(database: Database) -> None:
    service = CheckedPathInfoService("disk", SqlitePathInfoService("disk", database))
    await service.put(PATH_INFO)
    elsewhere = store_path("elsewhere").digest
    change(database, "UPDATE path_info SET digest = ?", elsewhere)
    with pytest.raises(CorruptObject, match="about another path"):
        await service.get(elsewhere)
    assert await service.get(elsewhere) is None


async def test_a_listing_names_a_damaged_path_info_and_keeps_it(database: Database) -> None:
    service = SqlitePathInfoService("disk", database)
    await service.put(PATH_INFO)
    change(database, "UPDATE path_info SET data = x'ff'")
    for _ in range(2):
        with pytest.raises(CorruptObject, match=PATH_INFO.store_path.digest.hex()):
            [path_info async for path_info in service.list()]
    await service.discard_corrupt(PATH_INFO.store_path.digest)
    assert [path_info async for path_info in service.list()] == []
