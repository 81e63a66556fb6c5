"""Which files are opened, which are set up, and which are refused."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tvix_store.digest import B3Digest
from tvix_store.errors import ConfigError, CorruptObject
from tvix_store.testing.fixtures import GOLDEN_DIRECTORIES
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.directory import SqliteDirectoryService
from tvix_store_sqlite.schema import APPLICATION_ID, SCHEMA_VERSION

pytestmark = pytest.mark.anyio

CHILD = Path(__file__).with_name("child.py")


async def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        await Database.open(str(path))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


async def set_up(path: Path) -> None:
    async with await Database.open(str(path)):
        pass


def names(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir()]


def make_noise(path: Path, start: int) -> None:
    """Overwrite all of the file from ``start`` on."""
    noise = random.Random(1).randbytes(path.stat().st_size - start)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(noise)


async def get_directories(path: Path, digests: Sequence[B3Digest]) -> None:
    async with await Database.open(str(path)) as database:
        await SqliteDirectoryService("test", database).get_many(digests)


async def test_directories_above_the_file_are_made(tmp_path: Path) -> None:
    await set_up(tmp_path / "a" / "b" / "store.sqlite")
    assert (tmp_path / "a" / "b" / "store.sqlite").is_file()


async def test_an_empty_file_is_set_up(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").touch()
    await set_up(tmp_path / "store.sqlite")
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("PRAGMA page_size").fetchone() == (8192,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_odd_names_are_fine(tmp_path: Path) -> None:
    name = "ä ?x=1&mode=ro#'%20;.sqlite"
    await set_up(tmp_path / name)
    assert names(tmp_path) == [name]


async def test_a_newer_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    await set_up(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 17")
    message = await refused(path)
    assert "version 17" in message
    assert f"version {SCHEMA_VERSION}" in message
    assert "newer" in message


async def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE content (id)")
        connection.execute("PRAGMA application_id = 4711")
    before = path.read_bytes()
    assert "not a tvix-store database" in await refused(path)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["other.sqlite"]


@pytest.mark.parametrize("content", [b"hello", b"hello" * 5000])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    assert "nor any SQLite database" in await refused(path)
    assert path.read_bytes() == content


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "is a directory" in await refused(tmp_path)


async def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in await refused(tmp_path / "file" / "store.sqlite")


@pytest.mark.parametrize("command", ["closed-directory", "closed-file"])
async def test_what_may_not_be_written_is_refused(tmp_path: Path, command: str) -> None:
    # In a child without privileges: root may write everywhere.
    process = await asyncio.create_subprocess_exec(
        sys.executable, CHILD, command, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert b"ConfigError" in output
    assert b"writable" in output or b"cannot be made" in output


async def test_many_processes_set_up_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, CHILD, "put-when-told", path, str(number), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for number in range(8)
    ]
    for process in processes:
        assert process.stdout is not None
        await process.stdout.readline()  # all are up, none has opened it
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [output for output, _ in outputs] == [b"done\n"] * 8
    async with await Database.open(str(path)) as database:
        service = SqliteDirectoryService("test", database)
        assert len([digest async for digest in service.list()]) == 8


async def test_a_file_that_was_only_begun_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with closing(sqlite3.connect(path)) as connection:  # killed before the tables were there
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("PRAGMA journal_mode = WAL")
    await set_up(path)


async def test_a_damaged_file_is_corrupt_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with await Database.open(str(path)) as database:
        await SqliteDirectoryService("test", database).put_many(list(GOLDEN_DIRECTORIES.values()))
    make_noise(path, 100)  # all but the header
    with pytest.raises(CorruptObject) as caught:
        await Database.open(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_pages_that_are_damaged_are_found_when_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with await Database.open(str(path)) as database:
        await SqliteDirectoryService("test", database).put_many(list(GOLDEN_DIRECTORIES.values()))
    make_noise(path, 8192)  # all but the first page, which has the names of the tables
    digests = [directory.digest for directory in GOLDEN_DIRECTORIES.values()]
    with pytest.raises(CorruptObject):
        await get_directories(path, digests)
