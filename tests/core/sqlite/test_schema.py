"""Which files are opened, which are set up, and which are refused."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from core.sqlite.child import SCHEMA, numbers, open_database, put
from tvix_store.errors import ConfigError, CorruptObject

pytestmark = pytest.mark.anyio

CHILD = Path(__file__).with_name("child.py")


async def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        await open_database(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


async def set_up(path: Path) -> None:
    async with await open_database(path):
        pass


def names(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir()]


def make_noise(path: Path, start: int) -> None:
    """Overwrite all of the file from ``start`` on."""
    noise = random.Random(1).randbytes(path.stat().st_size - start)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(noise)


async def put_one(path: Path) -> None:
    async with await open_database(path) as database:
        await database.write(put(1))


async def test_directories_above_the_file_are_made(tmp_path: Path) -> None:
    await set_up(tmp_path / "a" / "b" / "numbers.sqlite")
    assert (tmp_path / "a" / "b" / "numbers.sqlite").is_file()


async def test_an_empty_file_is_set_up(tmp_path: Path) -> None:
    (tmp_path / "numbers.sqlite").touch()
    await set_up(tmp_path / "numbers.sqlite")
    with closing(sqlite3.connect(tmp_path / "numbers.sqlite")) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (SCHEMA.application_id,)
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA.version,)
        assert connection.execute("PRAGMA page_size").fetchone() == (SCHEMA.page_bytes,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT count(*) FROM number, other").fetchone() == (0,)


async def test_odd_names_are_fine(tmp_path: Path) -> None:
    name = "ä ?x=1&mode=ro#'%20;.sqlite"
    await set_up(tmp_path / name)
    assert names(tmp_path) == [name]


async def test_a_newer_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "numbers.sqlite"
    await set_up(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 17")
    message = await refused(path)
    assert "version 17" in message
    assert f"version {SCHEMA.version}" in message
    assert "a newer version of this program made this list of numbers" in message


async def test_an_older_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "numbers.sqlite"
    await set_up(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    assert "another version" in await refused(path)


async def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE number (id)")
        connection.execute("PRAGMA application_id = 4711")
    before = path.read_bytes()
    assert "not a list of numbers" in await refused(path)
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
    assert "Not a directory" in await refused(tmp_path / "file" / "numbers.sqlite")


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
    path = tmp_path / "numbers.sqlite"
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
    async with await open_database(path) as database:
        assert sorted(await database.read(numbers)) == list(range(8))


async def test_a_file_that_was_only_begun_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "numbers.sqlite"
    with closing(sqlite3.connect(path)) as connection:  # killed before the tables were there
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("PRAGMA journal_mode = WAL")
    await set_up(path)


async def test_a_damaged_file_is_corrupt_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "numbers.sqlite"
    await put_one(path)
    make_noise(path, 100)  # all but the header
    with pytest.raises(CorruptObject) as caught:
        await open_database(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_pages_that_are_damaged_are_found_when_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "numbers.sqlite"
    await put_one(path)
    make_noise(path, SCHEMA.page_bytes)  # all but the first page, which has the names of the tables
    async with await open_database(path) as database:
        with pytest.raises(CorruptObject):
            await database.read(numbers)
