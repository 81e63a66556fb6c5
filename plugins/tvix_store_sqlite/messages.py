"""The tables that hold encoded messages by their keys, as plain functions on a connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Literal

from tvix_store_sqlite.statements import IN_VALUES, PUT_ROWS, flat, marks, rows, slices

__all__ = ["Row", "Table", "delete", "discard", "get_many", "keys_after", "page_after", "put_many"]

Row = tuple[bytes, bytes]
"""A key and the encoding of what it stands for."""

Table = Literal["directory", "path_info"]


def put_many(connection: sqlite3.Connection, table: Table, encodings: Iterable[Row]) -> None:
    """Store encodings, each in place of one that differs; of two with one key the last stays."""
    for part in slices(encodings, PUT_ROWS):
        connection.execute(
            f"INSERT INTO {table} (digest, data) VALUES {rows(part)} "
            "ON CONFLICT (digest) DO UPDATE SET data = excluded.data WHERE data IS NOT excluded.data",
            flat(part),
        )


def get_many(connection: sqlite3.Connection, table: Table, keys: Sequence[bytes]) -> list[bytes | None]:
    """The encodings, in the order of ``keys``; ``None`` where absent."""
    found: dict[bytes, bytes] = {}
    for part in slices(keys, IN_VALUES):
        found.update(connection.execute(f"SELECT digest, data FROM {table} WHERE digest IN ({marks(part)})", part))
    return [found.get(key) for key in keys]


def page_after(connection: sqlite3.Connection, table: Table, key: bytes, limit: int) -> list[Row]:
    """The next rows in the order of their keys."""
    return connection.execute(
        f"SELECT digest, data FROM {table} WHERE digest > ? ORDER BY digest LIMIT ?", (key, limit)
    ).fetchall()


def keys_after(connection: sqlite3.Connection, table: Table, key: bytes, limit: int) -> list[bytes]:
    """The next keys in their order."""
    found = connection.execute(f"SELECT digest FROM {table} WHERE digest > ? ORDER BY digest LIMIT ?", (key, limit))
    return [digest for (digest,) in found]


def delete(connection: sqlite3.Connection, table: Table, keys: Sequence[bytes]) -> None:
    """Remove rows; those that are absent are passed over."""
    for part in slices(keys, IN_VALUES):
        connection.execute(f"DELETE FROM {table} WHERE digest IN ({marks(part)})", part)


def discard(connection: sqlite3.Connection, table: Table, key: bytes, data: bytes) -> None:
    """Remove a row, unless it holds something else by now."""
    connection.execute(f"DELETE FROM {table} WHERE digest = ? AND data IS ?", (key, data))
