"""Groups of writes, reads beside them, cancellation and closing."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from tvix_store.errors import Unavailable
from tvix_store_sqlite import schema
from tvix_store_sqlite.database import Database

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with await Database.open(str(tmp_path / "store.sqlite"), max_readers=2) as database:
        yield database


class Gate:
    """A write that has begun and goes on when it is let through."""

    def __init__(self, database: Database) -> None:
        self._began = threading.Event()
        self._open = threading.Event()
        self.future = database.submit(self._wait)

    def _wait(self, connection: sqlite3.Connection) -> None:
        self._began.set()
        self._open.wait()

    async def began(self) -> None:
        await asyncio.to_thread(self._began.wait)

    def let_through(self) -> None:
        self._open.set()


def put(key: int) -> Callable[[sqlite3.Connection], int]:
    def function(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO directory (digest, data) VALUES (?, x'')", (b"%d" % key,))
        return key

    return function


def names(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir()]


def keys(connection: sqlite3.Connection) -> list[bytes]:
    return [key for (key,) in connection.execute("SELECT digest FROM directory ORDER BY id")]


async def test_writes_that_wait_are_committed_together(database: Database) -> None:
    gate = Gate(database)
    await gate.began()
    before = database.commits
    writes = [asyncio.ensure_future(database.write(put(number))) for number in range(100)]
    await asyncio.sleep(0)
    gate.let_through()
    assert await asyncio.gather(*writes) == list(range(100))
    assert database.commits - before == 2  # the one that waited at the gate, and all others
    assert len(await database.read(keys)) == 100


async def test_one_that_fails_does_not_spoil_the_others(database: Database) -> None:
    def put_and_fail(connection: sqlite3.Connection) -> None:
        put(2)(connection)
        raise ValueError("no")

    gate = Gate(database)
    await gate.began()
    writes = [asyncio.ensure_future(database.write(function)) for function in (put(1), put_and_fail, put(3))]
    await asyncio.sleep(0)
    gate.let_through()
    first, second, third = await asyncio.gather(*writes, return_exceptions=True)
    assert (first, third) == (1, 3)
    assert isinstance(second, ValueError)
    assert await database.read(keys) == [b"1", b"3"]


async def test_a_group_that_was_lost_is_carried_out_one_by_one(database: Database) -> None:
    def lose(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")  # as SQLite does by itself when the disk is full, for instance
        raise ValueError("lost")

    gate = Gate(database)
    await gate.began()
    writes = [asyncio.ensure_future(database.write(function)) for function in (put(1), lose, put(3))]
    await asyncio.sleep(0)
    gate.let_through()
    first, second, third = await asyncio.gather(*writes, return_exceptions=True)
    assert (first, third) == (1, 3)
    assert isinstance(second, ValueError)
    assert await database.read(keys) == [b"1", b"3"]


async def test_a_failure_alone_leaves_nothing(database: Database) -> None:
    def put_and_fail(connection: sqlite3.Connection) -> None:
        put(1)(connection)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.write(put_and_fail)
    assert await database.read(keys) == []
    assert await database.write(put(1)) == 1


async def test_a_cancelled_write_that_waits_is_dropped(database: Database) -> None:
    gate = Gate(database)
    await gate.began()
    write = asyncio.ensure_future(database.write(put(1)))
    await asyncio.sleep(0)
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    gate.let_through()
    await database.write(put(2))
    assert await database.read(keys) == [b"2"]


async def test_a_cancelled_write_that_has_begun_is_finished(database: Database) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slowly(connection: sqlite3.Connection) -> None:
        put(1)(connection)
        began.set()
        go_on.wait()
        put(2)(connection)

    write = asyncio.ensure_future(database.write(slowly))
    await asyncio.to_thread(began.wait)
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    go_on.set()
    await database.write(put(3))
    assert await database.read(keys) == [b"1", b"2", b"3"]


async def test_reads_do_not_wait_for_a_write(database: Database) -> None:
    await database.write(put(1))
    gate = Gate(database)
    await gate.began()
    assert await database.read(keys) == [b"1"]
    gate.let_through()


async def test_reads_run_at_the_same_time_and_no_more_than_allowed(database: Database) -> None:
    together = threading.Barrier(2, timeout=30)
    running = 0
    lock = threading.Lock()

    def read(connection: sqlite3.Connection) -> int:
        nonlocal running
        with lock:
            running += 1
            now = running
        together.wait()
        with lock:
            running -= 1
        return now

    assert max(await asyncio.gather(*(database.read(read) for _ in range(4)))) == 2


async def test_a_read_that_failed_leaves_no_transaction_behind(database: Database) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        keys(connection)
        raise ValueError("no")

    for _ in range(4):
        with pytest.raises(ValueError, match="no"):
            await database.read(fail)
    await database.write(put(1))
    assert [await database.read(keys) for _ in range(4)] == [[b"1"]] * 4


async def test_what_another_connection_locks_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "store.sqlite"
    async with await Database.open(str(path)) as database:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writes = await asyncio.gather(*(database.write(put(n)) for n in range(5)), return_exceptions=True)
            assert [type(outcome) for outcome in writes] == [Unavailable] * 5
            assert str(path) in str(writes[0])
            assert "another process keeps it locked" in str(writes[0])
            assert await database.read(keys) == []
            other.execute("ROLLBACK")
        assert await database.write(put(1)) == 1


async def test_closing_carries_out_what_waits(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sqlite")
    database = await Database.open(path)
    gate = Gate(database)
    await gate.began()
    writes = [database.submit(put(number)) for number in range(600)]
    close = asyncio.ensure_future(database.aclose())
    gate.let_through()
    await close
    assert [write.result() for write in writes] == list(range(600))
    async with await Database.open(path) as again:
        assert len(await again.read(keys)) == 600


async def test_closing_twice_and_at_the_same_time_is_fine(tmp_path: Path) -> None:
    database = await Database.open(str(tmp_path / "store.sqlite"))
    await asyncio.gather(database.aclose(), database.aclose())
    await database.aclose()
    assert names(tmp_path) == ["store.sqlite"]  # and no log beside it


async def test_closing_goes_on_when_it_is_cancelled(tmp_path: Path) -> None:
    database = await Database.open(str(tmp_path / "store.sqlite"))
    gate = Gate(database)
    await gate.began()
    close = asyncio.ensure_future(database.aclose())
    await asyncio.sleep(0)
    close.cancel()
    with pytest.raises(asyncio.CancelledError):
        await close
    gate.let_through()
    await database.aclose()
    assert names(tmp_path) == ["store.sqlite"]


async def test_a_closed_database_is_unavailable(tmp_path: Path) -> None:
    database = await Database.open(str(tmp_path / "store.sqlite"))
    await database.aclose()
    with pytest.raises(Unavailable, match="is closed"):
        await database.write(put(1))
    with pytest.raises(Unavailable, match="is closed"):
        await database.read(keys)


async def test_repeating_ends_with_a_failure(database: Database) -> None:
    left = 3

    def step(connection: sqlite3.Connection) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError("once too often")
        return left > 0

    await asyncio.wrap_future(database.repeat(step))
    assert left == 0
    with pytest.raises(ValueError, match="once too often"):
        await asyncio.wrap_future(database.repeat(step))
