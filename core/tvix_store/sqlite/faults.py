"""What SQLite's errors mean here: one table, used where a database is opened, read and written, and nowhere else.

Source: https://www.sqlite.org/rescode.html
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from tvix_store.errors import CorruptObject, LimitExceeded, OutOfSpace, StoreError, Unavailable

__all__ = ["is_busy", "primary_code", "translate", "translated"]

_FULL = "there is no space left for it"
_FAULTS: dict[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_BUSY: (Unavailable, "another process keeps it locked"),
    sqlite3.SQLITE_LOCKED: (Unavailable, "another connection keeps it locked"),
    sqlite3.SQLITE_PROTOCOL: (Unavailable, "another process keeps it locked"),
    sqlite3.SQLITE_FULL: (OutOfSpace, _FULL),
    sqlite3.SQLITE_IOERR: (Unavailable, "it could not be read or written"),
    sqlite3.SQLITE_READONLY: (Unavailable, "it cannot be written to"),
    sqlite3.SQLITE_CANTOPEN: (Unavailable, "it cannot be opened"),
    sqlite3.SQLITE_PERM: (Unavailable, "it may not be accessed"),
    sqlite3.SQLITE_AUTH: (Unavailable, "it may not be accessed"),
    sqlite3.SQLITE_NOLFS: (Unavailable, "its file system takes no files of this size"),
    sqlite3.SQLITE_NOMEM: (Unavailable, "there is no memory left for it"),
    sqlite3.SQLITE_INTERRUPT: (Unavailable, "the operation was interrupted"),
    sqlite3.SQLITE_TOOBIG: (LimitExceeded, "SQLite takes no value of this size"),
    sqlite3.SQLITE_CORRUPT: (CorruptObject, "it is damaged"),
    sqlite3.SQLITE_NOTADB: (CorruptObject, "it is damaged, or no database at all"),
    # The index of the write-ahead log is a file that grows, too, and fails in its own way.
    sqlite3.SQLITE_IOERR_SHMSIZE: (OutOfSpace, _FULL),
}


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 if the error did not come from SQLite."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """Whether somebody else's lock was in the way."""
    return primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


def translate(error: sqlite3.Error, path: str) -> StoreError | None:
    """The error to raise in place of SQLite's, with that as its cause; ``None`` if it is a bug here."""
    code = int(getattr(error, "sqlite_errorcode", 0))
    fault = _FAULTS.get(code) or _FAULTS.get(code & 0xFF)
    if fault is None:
        return None
    kind, reason = fault
    translated = kind(f"database {path}: {reason} ({str(error).splitlines()[0]})")
    translated.__cause__ = error
    return translated


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Within it, SQLite's errors are raised as ours."""
    try:
        yield
    except sqlite3.Error as exc:
        if (translated := translate(exc, path)) is None:
            raise
        raise translated from exc
