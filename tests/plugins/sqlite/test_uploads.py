"""Blobs that are being written: what is seen of them, and what is left of those that were not finished."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from tvix_store.blob import BlobWriter
from tvix_store.chunking import cut
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import Unavailable
from tvix_store.limits import MIB
from tvix_store.sqlite import schema
from tvix_store.testing.blob_access import assert_absent, list_blobs, read_blob, write_blob
from tvix_store.testing.fixtures import contents
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.uploads import is_anything_unfinished

pytestmark = pytest.mark.anyio

CHILD = Path(__file__).with_name("child.py")
DATA = contents(12 * MIB)
CHUNKS = [HashedBlob(bytes(chunk)) for chunk in cut(DATA)]


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[SqliteBlobService]:
    async with await Database.open(str(tmp_path / "store.sqlite")) as database:
        yield SqliteBlobService("test", database)


def count(path: str, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (number,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(number)


def names(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir()]


def counts(path: str) -> dict[str, int]:
    return {table: count(path, table) for table in ("content", "piece", "blob", "chunk")}


NOTHING = {"content": 0, "piece": 0, "blob": 0, "chunk": 0}


async def swept(database: Database) -> None:
    """Wait until nothing is left to be removed."""
    await asyncio.wrap_future(database.sweep())


async def start(service: SqliteBlobService, n_bytes: int = 9 * MIB) -> BlobWriter:
    """A writer that has stored chunks already."""
    writer = await service.open_write()
    await writer.write(DATA[:n_bytes])
    await service.database.write(lambda connection: None)
    assert count(service.database.path, "chunk") > 10
    return writer


async def test_chunks_are_stored_as_they_come_and_are_not_seen(service: SqliteBlobService) -> None:
    async with await start(service) as writer:
        digests = [chunk.digest for chunk in CHUNKS]
        assert list(await service.has_many(digests)) == [False] * len(digests)
        assert list(await service.get_many(digests)) == [None] * len(digests)
        for digest in digests[:3]:
            await assert_absent(service, digest)
        assert await list_blobs(service) == []
        await writer.write(DATA[9 * MIB :])
        assert await writer.close() == B3Digest.of(DATA)
        assert list(await service.has_many(digests)) == [True] * len(digests)
        assert list(await service.get_many(digests)) == [chunk.data for chunk in CHUNKS]
        assert await list_blobs(service) == [B3Digest.of(DATA)]


async def test_an_upload_that_is_given_up_leaves_no_rows(service: SqliteBlobService) -> None:
    writer = await start(service)
    await writer.aclose()
    await writer.aclose()
    assert counts(service.database.path) == NOTHING


async def test_a_writer_that_was_given_up_is_of_no_use(service: SqliteBlobService) -> None:
    writer = await start(service)
    await writer.aclose()
    with pytest.raises(Unavailable):
        await writer.write(b"more")
    with pytest.raises(Unavailable):
        await writer.close()


async def test_giving_up_keeps_what_others_need(service: SqliteBlobService) -> None:
    await service.put_many(CHUNKS[:2])
    finished = await write_blob(service, DATA[: 6 * MIB])
    writer = await start(service)
    await writer.aclose()
    assert await read_blob(service, finished) == DATA[: 6 * MIB]
    assert list(await service.get_many([chunk.digest for chunk in CHUNKS[:2]])) == [c.data for c in CHUNKS[:2]]


async def test_a_cancelled_write_makes_the_upload_fail(service: SqliteBlobService) -> None:
    async with await start(service) as writer:
        write = asyncio.ensure_future(writer.write(DATA))
        await asyncio.sleep(0)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
        for _ in range(2):
            with pytest.raises(Unavailable, match="interrupted"):
                await writer.close()
    assert counts(service.database.path) == NOTHING


@pytest.mark.parametrize("turns", range(12))
async def test_a_cancelled_close_stores_all_or_nothing(service: SqliteBlobService, turns: int) -> None:
    async with await start(service, len(DATA)) as writer:
        close = asyncio.ensure_future(writer.close())
        for _ in range(turns):
            await asyncio.sleep(0.001)
        close.cancel()
        await asyncio.wait([close])
    await swept(service.database)
    assert await read_blob(service, B3Digest.of(DATA)) in (None, DATA)
    assert counts(service.database.path) == NOTHING or await service.has(B3Digest.of(DATA))


async def test_deleting_takes_no_chunk_from_an_upload(service: SqliteBlobService) -> None:
    finished = await write_blob(service, DATA)
    async with await start(service) as writer:  # its chunks were there before
        await service.delete([finished])
        await assert_absent(service, finished)
        await writer.write(DATA[9 * MIB :])
        assert await writer.close() == finished
    assert await read_blob(service, finished) == DATA


async def test_the_same_blob_twice_at_once(service: SqliteBlobService) -> None:
    digests = await asyncio.gather(*(write_blob(service, DATA) for _ in range(3)))
    assert set(digests) == {B3Digest.of(DATA)}
    await swept(service.database)
    assert counts(service.database.path) == {
        "content": len(CHUNKS),
        "piece": len(CHUNKS),
        "blob": 1,
        "chunk": len(CHUNKS),
    }
    assert await read_blob(service, digests[0]) == DATA


async def test_a_database_that_is_opened_beside_leaves_uploads_alone(service: SqliteBlobService) -> None:
    async with await start(service) as writer:
        async with await Database.open(service.database.path) as beside:
            await swept(beside)
        await writer.write(DATA[9 * MIB :])
        await writer.close()
    assert await read_blob(service, B3Digest.of(DATA)) == DATA


async def test_uploads_end_with_the_database(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sqlite")
    async with await Database.open(path) as database:
        writer = await start(SqliteBlobService("test", database))
        assert any("-upload-" in name for name in names(tmp_path))
    assert names(tmp_path) == ["store.sqlite"]
    await writer.aclose()
    async with await Database.open(path) as database:
        await swept(database)
    assert counts(path) == NOTHING


async def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sqlite")
    async with await Database.open(path) as beside:
        process = await asyncio.create_subprocess_exec(
            sys.executable, CHILD, "upload-and-wait", path, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"uploading\n"
        await swept(beside)
        assert count(path, "chunk") > 10  # the process is alive
        process.kill()
        await process.wait()
        await swept(beside)
        assert counts(path) == NOTHING
        assert not any("-upload-" in name for name in names(tmp_path))


async def test_the_lock_of_a_killed_process_that_left_nothing_else_is_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sqlite")
    for token in ("0123456789abcdef", "fedcba9876543210"):
        (tmp_path / f"store.sqlite-upload-{token}").touch(0o600)
    of_another = os.open(f"{path}-upload-fedcba9876543210", os.O_RDONLY)
    fcntl.flock(of_another, fcntl.LOCK_EX)
    async with await Database.open(path):
        assert [name for name in names(tmp_path) if "-upload-" in name] == ["store.sqlite-upload-fedcba9876543210"]
    os.close(of_another)


async def test_an_upload_whose_chunks_were_removed_says_so(service: SqliteBlobService) -> None:
    async with await start(service) as writer:
        with closing(sqlite3.connect(service.database.path)) as connection, connection:
            connection.execute("UPDATE blob SET upload = NULL")
        await swept(service.database)
        await writer.write(DATA[9 * MIB :])
        with pytest.raises(Unavailable, match="write it again"):
            await writer.close()
    await assert_absent(service, B3Digest.of(DATA))


async def test_waste_that_could_not_be_removed_is_removed_after_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_BUSY_TIMEOUT_S", 0.05)
    async with await Database.open(str(tmp_path / "store.sqlite")) as database:
        service = SqliteBlobService("test", database)
        writer = await start(service)
        with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await writer.aclose()
            other.execute("ROLLBACK")
        assert count(database.path, "chunk") > 10
        await service.put_many([HashedBlob(b"something")])
        while await database.write(is_anything_unfinished):
            pass  # the database sweeps by itself, between writes
        assert counts(database.path) == {**NOTHING, "content": 1}
