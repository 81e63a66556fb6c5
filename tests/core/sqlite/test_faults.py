"""What becomes of SQLite's errors."""

from __future__ import annotations

import sqlite3

import pytest

from tvix_store.errors import OutOfSpace, Unavailable
from tvix_store.sqlite.faults import translate


def test_errors_that_are_bugs_are_not_translated() -> None:
    connection = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("SELECT nonsense")
    assert translate(caught.value, "x") is None
    connection.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, Unavailable),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Unavailable),
        (sqlite3.SQLITE_FULL, OutOfSpace),
        (sqlite3.SQLITE_IOERR_WRITE, Unavailable),
        (sqlite3.SQLITE_IOERR_SHMSIZE, OutOfSpace),
        (sqlite3.SQLITE_READONLY_DBMOVED, Unavailable),
        (sqlite3.SQLITE_CANTOPEN_ISDIR, Unavailable),
    ],
)
def test_errors_are_translated_with_their_cause(code: int, kind: type[Exception]) -> None:
    error = sqlite3.OperationalError("details")
    error.sqlite_errorcode = code
    translated = translate(error, "/path")
    assert type(translated) is kind
    assert "/path" in str(translated)
    assert "details" in str(translated)
    assert translated.__cause__ is error
