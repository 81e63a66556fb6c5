"""A database of numbers, for tests; and what they do to one from other processes: ``child.py COMMAND PATH ...``."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from tvix_store.capabilities import Durability
from tvix_store.errors import StoreError
from tvix_store.limits import KIB
from tvix_store.liveness import Liveness
from tvix_store.sqlite.database import Database
from tvix_store.sqlite.schema import Schema

SCHEMA = Schema(
    application_id=0x1234,
    version=3,
    tables="""
CREATE TABLE number (
    id INTEGER PRIMARY KEY,
    n INTEGER NOT NULL UNIQUE
);
CREATE TABLE other (id INTEGER PRIMARY KEY);
""",
    page_bytes=16 * KIB,
    what="list of numbers",
)

NOBODY = 65534


async def open_database(path: Path | str, durability: Durability = Durability.COMMIT) -> Database:
    """With two readers."""
    return await Database.open(str(path), SCHEMA, durability=durability, max_readers=2)


def put(number: int) -> Callable[[sqlite3.Connection], int]:
    """A write that adds a number, and returns it."""

    def function(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO number (n) VALUES (?)", (number,))
        return number

    return function


def numbers(connection: sqlite3.Connection) -> list[int]:
    """All numbers, in the order they were put."""
    return [number for (number,) in connection.execute("SELECT n FROM number ORDER BY id")]


def say(text: str) -> None:
    """To the test, at once."""
    os.write(1, f"{text}\n".encode())


async def put_when_told(path: str, number: int) -> None:
    """Open the database only when told to, and put one number."""
    say("ready")
    sys.stdin.readline()
    async with await open_database(path) as database:
        await database.write(put(number))
    say("done")


async def open_closed(path: str, command: str) -> None:
    """Open a database in a directory, or a file, that may not be written to; as somebody without privileges."""
    place = Path(path) / "closed"
    place.mkdir()
    file = place / "numbers.sqlite"
    if command == "closed-file":
        async with await open_database(file):
            pass
        file.chmod(0o444)
        place.chmod(0o777)
    else:
        place.chmod(0o555)
    if os.getuid() == 0:
        for above in (Path(path), *Path(path).parents[:-2]):
            above.chmod(above.stat().st_mode | 0o111)
        os.setuid(NOBODY)
    try:
        await open_database(file)
    except StoreError as exc:
        say(f"{type(exc).__name__}: {exc}")


def name_and_wait(prefix: str) -> None:
    """Say a name that is alive, and wait to be killed."""
    liveness = Liveness(prefix)
    say(liveness.start())
    sys.stdin.readline()


def main() -> None:
    """Do as the command line says."""
    match sys.argv[1:]:
        case ["put-when-told", path, number]:
            asyncio.run(put_when_told(path, int(number)))
        case [("closed-directory" | "closed-file") as command, path]:
            asyncio.run(open_closed(path, command))
        case ["name-and-wait", prefix]:
            name_and_wait(prefix)
        case arguments:
            raise SystemExit(f"what is {arguments}?")


if __name__ == "__main__":
    main()
