"""Statements that take many values at once, and reads that belong together.

SQLite gives up the interpreter's lock for each row it steps to, and in a busy process it takes up to 5 ms to
get it back. So rows are inserted and asked for by the dozen.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import TypeVar

__all__ = ["IN_VALUES", "PUT_ROWS", "flat", "marks", "rows", "slices", "snapshot"]

T = TypeVar("T")

PUT_ROWS = 64
"""How many rows one INSERT takes."""

IN_VALUES = 256
"""How many values one IN takes."""


def slices(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """``items`` in lists of ``size``; the last may be shorter."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def marks(values: Sequence[object]) -> str:
    """The parameters of an IN with these values."""
    return ",".join("?" * len(values))


def rows(pairs: Sequence[tuple[object, object]]) -> str:
    """The parameters of VALUES with these rows; ``flat`` gives their values."""
    return ",".join(["(?,?)"] * len(pairs))


def flat(pairs: Sequence[tuple[T, T]]) -> list[T]:
    """The values of ``pairs`` one after the other."""
    return list(chain.from_iterable(pairs))


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Several reads that see the same state."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    yield
    connection.execute("COMMIT")
