"""The tables that hold encoded messages by their keys, as plain functions on a connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Literal

from tvix_store.limits import KIB, MIB
from tvix_store.sqlite.statements import IN_VALUES, PUT_ROWS, flat, marks, rows, slices

__all__ = ["Row", "Table", "count", "delete", "discard", "each", "get_many", "keys_after", "page_after", "put_many"]

Row = tuple[bytes, bytes]
"""A key and the encoding of what it stands for."""

Table = Literal["directory", "path_info"]

_PAGE_BYTES = 1 * MIB

_SHORT_BYTES = 16 * KIB
"""Nearly all of them are shorter; a message can have a few MiB."""


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


def each(connection: sqlite3.Connection, table: Table, keys: Sequence[bytes]) -> Iterator[bytes | None]:
    """As ``get_many``, one by one; of those to come, no more are held than short ones and few."""
    for part in slices(keys, IN_VALUES):
        select = f"SELECT digest, iif(length(data) <= ?, data, NULL) FROM {table} WHERE digest IN ({marks(part)})"
        found: dict[bytes, bytes | None] = dict(connection.execute(select, (_SHORT_BYTES, *part)))
        for key in part:
            data = found.get(key)
            if data is None and key in found:  # it is long
                (data,) = get_many(connection, table, [key])
            yield data


def page_after(connection: sqlite3.Connection, table: Table, key: bytes, limit: int) -> list[Row]:
    """The next rows in the order of their keys; fewer than ``limit``, but at least one, where they are long."""
    page: list[Row] = []
    n_bytes = 0
    select = f"SELECT digest, data FROM {table} WHERE digest > ? ORDER BY digest LIMIT ?"
    with closing(connection.execute(select, (key, limit))) as found:
        for row in found:
            page.append(row)
            n_bytes += len(row[1])
            if n_bytes >= _PAGE_BYTES:
                break
    return page


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


def count(connection: sqlite3.Connection, table: Table) -> tuple[int, int]:
    """How many rows there are, and how many bytes they hold."""
    (n_rows, n_bytes) = connection.execute(f"SELECT count(*), ifnull(sum(length(data)), 0) FROM {table}").fetchone()
    return n_rows, n_bytes
