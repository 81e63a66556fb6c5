"""Groups of writes, reads beside them, cancellation and closing."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from core.sqlite.child import SCHEMA, numbers, open_database, put
from tvix_store.capabilities import Durability
from tvix_store.errors import Unavailable
from tvix_store.sqlite import schema
from tvix_store.sqlite.database import Database

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with await open_database(tmp_path / "numbers.sqlite") as database:
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


def names(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir()]


def exists(path: Path) -> bool:
    return path.exists()


async def test_writes_that_wait_are_committed_together(database: Database) -> None:
    gate = Gate(database)
    await gate.began()
    before = database.commits
    writes = [asyncio.ensure_future(database.write(put(number))) for number in range(100)]
    await asyncio.sleep(0)
    gate.let_through()
    assert await asyncio.gather(*writes) == list(range(100))
    assert database.commits - before == 2  # the one that waited at the gate, and all others
    assert len(await database.read(numbers)) == 100


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
    assert await database.read(numbers) == [1, 3]


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
    assert await database.read(numbers) == [1, 3]


async def test_a_failure_alone_leaves_nothing(database: Database) -> None:
    def put_and_fail(connection: sqlite3.Connection) -> None:
        put(1)(connection)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.write(put_and_fail)
    assert await database.read(numbers) == []
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
    assert await database.read(numbers) == [2]


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
    assert await database.read(numbers) == [1, 2, 3]


async def test_reads_do_not_wait_for_a_write(database: Database) -> None:
    await database.write(put(1))
    gate = Gate(database)
    await gate.began()
    assert await database.read(numbers) == [1]
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
        numbers(connection)
        raise ValueError("no")

    for _ in range(4):
        with pytest.raises(ValueError, match="no"):
            await database.read(fail)
    await database.write(put(1))
    assert [await database.read(numbers) for _ in range(4)] == [[1]] * 4


async def test_what_another_connection_locks_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "numbers.sqlite"
    async with await open_database(path) as database:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writes = await asyncio.gather(*(database.write(put(n)) for n in range(5)), return_exceptions=True)
            assert [type(outcome) for outcome in writes] == [Unavailable] * 5
            assert str(path) in str(writes[0])
            assert "another process keeps it locked" in str(writes[0])
            assert await database.read(numbers) == []
            other.execute("ROLLBACK")
        assert await database.write(put(1)) == 1


async def test_closing_carries_out_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "numbers.sqlite"
    database = await open_database(path)
    gate = Gate(database)
    await gate.began()
    writes = [database.submit(put(number)) for number in range(600)]
    close = asyncio.ensure_future(database.aclose())
    gate.let_through()
    await close
    assert [write.result() for write in writes] == list(range(600))
    async with await open_database(path) as again:
        assert len(await again.read(numbers)) == 600


async def test_closing_twice_and_at_the_same_time_is_fine(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "numbers.sqlite")
    await asyncio.gather(database.aclose(), database.aclose())
    await database.aclose()
    assert names(tmp_path) == ["numbers.sqlite"]  # and no log beside it


async def test_closing_goes_on_when_it_is_cancelled(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "numbers.sqlite")
    gate = Gate(database)
    await gate.began()
    close = asyncio.ensure_future(database.aclose())
    await asyncio.sleep(0)
    close.cancel()
    with pytest.raises(asyncio.CancelledError):
        await close
    gate.let_through()
    await database.aclose()
    assert names(tmp_path) == ["numbers.sqlite"]


async def test_a_closed_database_is_unavailable(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "numbers.sqlite")
    await database.aclose()
    with pytest.raises(Unavailable, match="is closed"):
        await database.write(put(1))
    with pytest.raises(Unavailable, match="is closed"):
        await database.read(numbers)


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


async def test_each_commit_is_told_and_nothing_else(database: Database) -> None:
    told: list[int] = []
    database.after_commit = lambda: told.append(database.commits)
    before = database.commits
    await database.write(put(1))
    with pytest.raises(sqlite3.IntegrityError):
        await database.write(put(1))
    await database.write(put(2))
    assert told == [before + 1, before + 2]


async def test_a_private_database_is_gone_when_closed() -> None:
    async with await Database.open(None, SCHEMA) as database:
        assert database.durability is Durability.NONE
        await database.write(put(1))
        path = Path(database.path)
        assert names(path.parent)
    assert not exists(path.parent)
