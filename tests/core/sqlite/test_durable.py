"""Writes that survive power loss in a database whose others need not."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.sqlite.child import numbers, open_database, put
from tvix_store.capabilities import Durability
from tvix_store.sqlite.database import Database

pytestmark = pytest.mark.anyio

OFF, NORMAL, FULL = 0, 1, 2


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with await open_database(tmp_path / "numbers.sqlite", Durability.BATCHED) as database:
        yield database


def synchronous(connection: sqlite3.Connection) -> int:
    (value,) = connection.execute("PRAGMA synchronous").fetchone()
    return int(value)


def nothing(connection: sqlite3.Connection) -> None:
    pass


def log_bytes(database: Database) -> int:
    return Path(f"{database.path}-wal").stat().st_size


async def test_only_a_durable_write_is_synced(database: Database) -> None:
    assert await database.write(synchronous) == NORMAL
    assert await database.write(synchronous, durable=True) == FULL
    assert await database.write(synchronous) == NORMAL


async def test_a_group_with_a_durable_write_is_synced(database: Database) -> None:
    began, go_on = threading.Event(), threading.Event()

    def wait(connection: sqlite3.Connection) -> None:
        began.set()
        go_on.wait()

    first = database.submit(wait)
    await asyncio.to_thread(began.wait)
    group = [database.submit(synchronous, durable=durable) for durable in (False, True, False)]
    go_on.set()
    await asyncio.wrap_future(first)
    assert [await asyncio.wrap_future(future) for future in group] == [FULL, FULL, FULL]
    assert await database.write(synchronous) == NORMAL


async def test_after_a_durable_write_that_failed_others_are_not_synced(database: Database) -> None:
    await database.write(put(1))
    with pytest.raises(sqlite3.IntegrityError):
        await database.write(put(1), durable=True)
    assert await database.write(synchronous) == NORMAL


async def test_a_durable_write_of_nothing_syncs_what_was_before(database: Database) -> None:
    await database.write(put(1))
    before = log_bytes(database)
    await database.write(nothing)
    assert log_bytes(database) == before
    await database.write(nothing, durable=True)
    assert log_bytes(database) > before  # SQLite syncs the log when it has added to it, and only then
    assert await database.read(numbers) == [1]


@pytest.mark.parametrize(("durability", "value"), [(Durability.COMMIT, FULL), (Durability.NONE, OFF)])
async def test_in_others_nothing_changes(tmp_path: Path, durability: Durability, value: int) -> None:
    async with await open_database(tmp_path / "numbers.sqlite", durability) as database:
        assert await database.write(synchronous, durable=True) == value
        assert await database.write(synchronous) == value
