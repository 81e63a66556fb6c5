"""What the file is for other programs, and which files are refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tvix_store.errors import ConfigError
from tvix_store_sqlite.database import Database

pytestmark = pytest.mark.anyio

COLUMNS = {
    "content": ["id", "digest", "data"],
    "piece": ["digest"],
    "blob": ["id", "digest", "upload"],
    "chunk": ["blob", "position", "digest", "size"],
    "directory": ["id", "digest", "data"],
    "path_info": ["id", "digest", "data"],
}


def names(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir()]


async def test_the_format_is_the_one_of_version_1(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with await Database.open(str(path)):
        pass
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (0x54565853,)
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("PRAGMA page_size").fetchone() == (8192,)
        for table, columns in COLUMNS.items():
            assert [row[1] for row in connection.execute(f"PRAGMA table_info({table})")] == columns


async def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE content (id)")
    with pytest.raises(ConfigError, match="not a tvix-store database"):
        await Database.open(str(path))
    assert names(tmp_path) == ["other.sqlite"]
