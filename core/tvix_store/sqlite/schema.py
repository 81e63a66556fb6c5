"""How a connection to a database is made: a new file is set up, a foreign or newer one is refused."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from dataclasses import dataclass
from urllib.parse import quote

from tvix_store.capabilities import Durability
from tvix_store.errors import ConfigError
from tvix_store.limits import KIB, MIB
from tvix_store.sqlite.faults import is_busy, primary_code

__all__ = ["SYNCHRONOUS", "Schema", "open_reader", "open_writer"]

_WRITER_CACHE_BYTES = 16 * MIB
_READER_CACHE_BYTES = 4 * MIB
_CHECKPOINT_BYTES = 32 * MIB
_WAL_LIMIT_BYTES = 64 * MIB
_CACHED_STATEMENTS = 256
_BUSY_TIMEOUT_S = 30.0
_BUSY_PAUSE_S = 0.02

SYNCHRONOUS = {Durability.COMMIT: "FULL", Durability.BATCHED: "NORMAL", Durability.NONE: "OFF"}
"""What SQLite calls each durability."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What a database of some kind has in it, and how that kind is told from others.

    Args:
        application_id: Of the kind; from 1 to 2^31 - 1.
        version: Of the tables. A file with another is refused.
        tables: The statements that make the tables, each with a semicolon at the end of its last line and nowhere else
            at the end of a line.
        page_bytes: The size of a page in a file that is set up; a power of two from 512 to 65,536.
        what: What messages call a database of this kind, without an article: ``tvix-store database``.
    """

    application_id: int
    version: int
    tables: str
    page_bytes: int
    what: str


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


def open_writer(path: str, schema: Schema, durability: Durability) -> sqlite3.Connection:
    """The connection that writes; sets up the database, and the directories above it, where there is none.

    Several processes may do so at once.

    Args:
        path: Of the database file, absolute.
        schema: What is set up, or expected.
        durability: What a transaction that is committed survives.

    Raises:
        ConfigError: There is no place for it, or it is of another program or a newer version.
        sqlite3.Error: SQLite cannot work with it.
    """
    _check_place(path)
    try:
        connection = _connect(path, "rwc", _WRITER_CACHE_BYTES)
        try:
            _set_up(connection, path, schema)
            connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS[durability]}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_BYTES // schema.page_bytes}")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as exc:
        if primary_code(exc) == sqlite3.SQLITE_NOTADB:
            raise ConfigError(f"{path}: is not a {schema.what}, nor any SQLite database") from exc
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


def _set_up(connection: sqlite3.Connection, path: str, schema: Schema) -> None:
    # Whoever else sets it up or closes it just now takes locks for which SQLite does not wait by itself.
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            if not _is_set_up(connection, path, schema):
                connection.execute(f"PRAGMA page_size = {schema.page_bytes}")
                _use_write_ahead_log(connection, path)
                _create(connection, path, schema)
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


def _create(connection: sqlite3.Connection, path: str, schema: Schema) -> None:
    connection.execute("BEGIN IMMEDIATE")
    if not _is_set_up(connection, path, schema):
        for statement in schema.tables.strip().split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute(f"PRAGMA user_version = {schema.version}")
    connection.execute("COMMIT")


def _is_set_up(connection: sqlite3.Connection, path: str, schema: Schema) -> bool:
    """Whether the tables are there; ``False`` for an empty database.

    Raises:
        ConfigError: It is of another program, or of a newer version of this one.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (application, version, n_tables) == (0, 0, 0):
        return False
    if application != schema.application_id:
        # Another process may have set it up between the statements above; then the next look is right.
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != schema.application_id:
            raise ConfigError(
                f"{path}: is not a {schema.what}: application id {application:#x} instead of {schema.application_id:#x}"
            )
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != schema.version:
        age = "a newer" if version > schema.version else "another"
        raise ConfigError(
            f"{path}: {age} version of this program made this {schema.what}: its schema has version {version}, "
            f"this program knows version {schema.version}"
        )
    return True
