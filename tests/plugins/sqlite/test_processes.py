"""Several processes with one file, and processes that are killed."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from asyncio.subprocess import Process
from contextlib import closing
from pathlib import Path

import pytest

from plugins.sqlite.child import directory, large_blob, path_info, small_blobs
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.digest import B3Digest
from tvix_store.testing.blob_access import read_blob
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.directory import SqliteDirectoryService
from tvix_store_sqlite.path_info import SqlitePathInfoService

pytestmark = pytest.mark.anyio

CHILD = Path(__file__).with_name("child.py")


async def put_batches(path: Path, first: int, count: int) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, CHILD, "put-batches", path, str(first), str(count), stdout=subprocess.PIPE
    )


async def acknowledged(process: Process, count: int | None = None) -> list[tuple[str, int]]:
    """What the child says it has put, the next ``count`` times or to its end."""
    assert process.stdout is not None
    said: list[tuple[str, int]] = []
    while len(said) != count and (line := await process.stdout.readline()).endswith(b"\n"):
        what, batch = line.decode().split()
        said.append((what, int(batch)))
    return said


class Store:
    """The three services of a database, with the checks of core."""

    def __init__(self, database: Database) -> None:
        self.blobs = CheckedBlobService("blobs", SqliteBlobService("blobs", database))
        self.directories = CheckedDirectoryService("directories", SqliteDirectoryService("directories", database))
        self.path_infos = CheckedPathInfoService("path-infos", SqlitePathInfoService("path-infos", database))

    async def assert_holds(self, what: str, batch: int) -> None:
        if what == "blobs":
            blobs = small_blobs(batch)
            assert list(await self.blobs.get_many([blob.digest for blob in blobs])) == [blob.data for blob in blobs]
        elif what == "large":
            assert await read_blob(self.blobs, B3Digest.of(large_blob(batch))) == large_blob(batch)
        else:
            assert await self.directories.get(directory(batch).digest) == directory(batch)
            assert await self.path_infos.get(path_info(batch).store_path.digest) == path_info(batch)

    async def assert_sound(self) -> None:
        """Everything that is listed can be read, and nothing points nowhere."""
        async for digest in self.blobs.list():
            assert await read_blob(self.blobs, digest) is not None
        async for info in self.path_infos.list():
            assert await self.directories.get(directory(info.nar_size).digest) is not None


def assert_no_leftovers(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM blob WHERE digest IS NULL").fetchone() == (0,)
        orphans = "SELECT count(*) FROM {} WHERE NOT EXISTS (SELECT 1 FROM {} AS other WHERE other.digest = {}.digest)"
        assert connection.execute(orphans.format("piece", "chunk", "piece")).fetchone() == (0,)
        assert connection.execute(orphans.format("chunk", "content", "chunk")).fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_processes_write_and_read_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with await Database.open(str(path)) as database:
        store = Store(database)
        children = [await put_batches(path, first, 4) for first in (0, 2, 10)]  # 2 and 3 are put twice

        async def follow(process: Process) -> int:
            assert process.stdout is not None
            said = 0
            async for line in process.stdout:  # what one has put, the other sees at once
                what, batch = line.decode().split()
                await store.assert_holds(what, int(batch))
                said += 1
            assert await process.wait() == 0
            return said

        assert await asyncio.gather(*map(follow, children)) == [12, 12, 12]
        await store.assert_sound()
    assert_no_leftovers(path)


async def test_what_was_acknowledged_survives_kill_and_nothing_is_half_there(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    promised: list[tuple[str, int]] = []
    for attempt in range(10):
        process = await put_batches(path, 100 * attempt, 50)
        promised += await acknowledged(process, 2 * attempt + 1)
        await asyncio.sleep(0.004 * attempt)  # somewhere in the middle of the next, each time elsewhere
        process.kill()
        promised += await acknowledged(process)
        await process.wait()
        async with await Database.open(str(path)) as database:
            await Store(database).assert_sound()
            await asyncio.wrap_future(database.sweep())
        assert_no_leftovers(path)
    assert len(promised) >= sum(2 * attempt + 1 for attempt in range(10))
    async with await Database.open(str(path)) as database:
        for what, batch in promised:
            await Store(database).assert_holds(what, batch)
