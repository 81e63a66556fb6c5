"""The tables, and how a connection to them is made: a new file is set up, a foreign or newer one is refused."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from urllib.parse import quote

from tvix_store.capabilities import Durability
from tvix_store.errors import ConfigError
from tvix_store.limits import KIB, MIB
from tvix_store_sqlite.faults import is_busy, primary_code

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "open_reader", "open_writer"]

APPLICATION_ID = int.from_bytes(b"TVXS")
SCHEMA_VERSION = 1

_TABLES = """
CREATE TABLE content (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, data BLOB NOT NULL);
CREATE TABLE piece (digest BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE blob (id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB UNIQUE, upload TEXT);
CREATE TABLE chunk (
    blob INTEGER NOT NULL, position INTEGER NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (blob, position)
) WITHOUT ROWID;
CREATE INDEX chunk_digest ON chunk (digest);
CREATE TABLE directory (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, data BLOB NOT NULL);
CREATE TABLE path_info (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, data BLOB NOT NULL);
"""

_PAGE_BYTES = 8 * KIB
_WRITER_CACHE_BYTES = 16 * MIB
_READER_CACHE_BYTES = 4 * MIB
_CHECKPOINT_BYTES = 32 * MIB
_WAL_LIMIT_BYTES = 64 * MIB
_CACHED_STATEMENTS = 256
_BUSY_TIMEOUT_S = 30.0
_BUSY_PAUSE_S = 0.02

_SYNCHRONOUS = {Durability.COMMIT: "FULL", Durability.BATCHED: "NORMAL", Durability.NONE: "OFF"}


def _connect(path: str, mode: str, cache_bytes: int) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(path)}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions are begun where they are wanted
        check_same_thread=False,  # the thread that uses it is not the one that closes it
        cached_statements=_CACHED_STATEMENTS,
    )
    try:
        connection.execute(f"PRAGMA cache_size = {-cache_bytes // KIB}")
        connection.execute(f"PRAGMA query_only = {int(mode == 'rw')}")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: str) -> sqlite3.Connection:
    """A connection that only reads, to a database that is set up."""
    return _connect(path, "rw", _READER_CACHE_BYTES)


def open_writer(path: str, durability: Durability) -> sqlite3.Connection:
    """The connection that writes; sets up the database, and the directories above it, where there is none.

    Several processes may do so at once.

    Raises:
        ConfigError: There is no place for it, or it is of another program or a newer version.
        sqlite3.Error: SQLite cannot work with it.
    """
    _check_place(path)
    try:
        connection = _connect(path, "rwc", _WRITER_CACHE_BYTES)
        try:
            _set_up(connection, path)
            connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_BYTES // _PAGE_BYTES}")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as exc:
        if primary_code(exc) == sqlite3.SQLITE_NOTADB:
            raise ConfigError(f"{path}: is not a tvix-store database, nor any SQLite database") from exc
        if primary_code(exc) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            raise ConfigError(f"{path}: the database cannot be opened for writing ({exc})") from exc
        raise
    return connection


def _check_place(path: str) -> None:
    """Say in words what SQLite only calls ``unable to open``."""
    if os.path.isdir(path):
        raise ConfigError(f"{path}: is a directory; the path of a database is that of a file")
    parent = os.path.dirname(path)
    try:
        _make_directory(parent)
    except OSError as exc:
        raise ConfigError(f"{path}: the directory for the database cannot be made: {exc.strerror}") from exc
    if not os.access(parent, os.W_OK | os.X_OK):  # for the write-ahead log, which lies beside the database
        raise ConfigError(f"{path}: the directory of the database is not writable")
    if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK):
        raise ConfigError(f"{path}: the database is not readable and writable")


def _make_directory(path: str) -> None:
    """Make it and those above it, so that they survive power loss together with what is put in them."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    _make_directory(parent)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
    descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set_up(connection: sqlite3.Connection, path: str) -> None:
    # Whoever else sets it up or closes it just now takes locks for which SQLite does not wait by itself.
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            if not _is_set_up(connection, path):
                connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                _use_write_ahead_log(connection, path)
                _create(connection, path)
            _use_write_ahead_log(connection, path)
            return
        except sqlite3.Error as exc:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if not is_busy(exc) or time.monotonic() > deadline:
                raise
        time.sleep(_BUSY_PAUSE_S)


def _use_write_ahead_log(connection: sqlite3.Connection, path: str) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise ConfigError(f"{path}: its file system cannot hold a shared database (no write-ahead log, only {mode})")


def _create(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    if not _is_set_up(connection, path):
        for statement in _TABLES.strip().split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _is_set_up(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the tables are there; ``False`` for an empty database.

    Raises:
        ConfigError: It is of another program, or of a newer version of this one.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (application, version, n_tables) == (0, 0, 0):
        return False
    if application != APPLICATION_ID:
        # Another process may have set it up between the statements above; then the next look is right.
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise ConfigError(
                f"{path}: is not a tvix-store database: application id {application:#x} instead of {APPLICATION_ID:#x}"
            )
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA_VERSION:
        age = "a newer" if version > SCHEMA_VERSION else "another"
        raise ConfigError(
            f"{path}: {age} tvix-store made this database: its schema has version {version}, "
            f"this program knows version {SCHEMA_VERSION}"
        )
    return True
