"""Directories and path infos may have some MiB; of those, only a few are held at once."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from tvix_store.errors import DanglingReference
from tvix_store.nodes import Directory, SymlinkNode
from tvix_store.path_info import Signature
from tvix_store.testing.fixtures import PATH_INFO, store_path
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.directory import SqliteDirectoryService
from tvix_store_sqlite.path_info import SqlitePathInfoService

pytestmark = pytest.mark.anyio

T = TypeVar("T")


class WatchedDatabase(Database):
    """Remembers the most objects that a read got."""

    most = 0

    async def read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        result = await super().read(function)
        assert isinstance(result, list)
        self.most = max(self.most, len(result))
        return result


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[WatchedDatabase]:
    async with await WatchedDatabase.open(str(tmp_path / "store.sqlite")) as database:
        yield database


def long_directory(number: int) -> Directory:
    return Directory((b"%d-%05d" % (number, index), SymlinkNode(b"t" * 100)) for index in range(4000))


def root_of(children: list[Directory]) -> Directory:
    return Directory((b"%d" % index, child.node()) for index, child in enumerate(children))


async def test_a_tree_of_long_directories_is_read_a_few_at_a_time(database: WatchedDatabase) -> None:
    service = SqliteDirectoryService("test", database)
    short = [Directory({b"%d" % index: SymlinkNode(b"t")}) for index in range(20)]
    children = [*short, *(long_directory(number) for number in range(12)), Directory()]
    root = root_of(children)
    await service.put_many([*children, root])
    found = [directory async for directory in service.get_recursive(root.digest)]
    assert found[0] == root
    assert {directory.digest for directory in found} == {directory.digest for directory in (root, *children)}
    assert len(found) == 1 + len(children)
    assert database.most <= 25


async def test_the_first_absent_one_among_long_directories_is_named(database: WatchedDatabase) -> None:
    service = SqliteDirectoryService("test", database)
    children = [long_directory(number) for number in range(6)]
    root = root_of(children)
    await service.put_many([*children[:3], *children[4:], root])
    tree = service.get_recursive(root.digest)
    assert [(await anext(tree)).digest for _ in range(4)] == [root.digest, *(child.digest for child in children[:3])]
    with pytest.raises(DanglingReference, match=re.escape(str(children[3].digest))):
        await anext(tree)


async def test_long_path_infos_are_listed_a_few_at_a_time(database: WatchedDatabase) -> None:
    service = SqlitePathInfoService("test", database)
    signatures = tuple(Signature(f"key-{index}", bytes(64)) for index in range(4000))
    paths = [store_path(f"path-{number}") for number in range(20)]
    path_infos = [replace(PATH_INFO, store_path=path, signatures=signatures) for path in paths]
    await service.put_many(path_infos)
    listed = [path_info async for path_info in service.list()]
    assert listed == sorted(path_infos, key=lambda path_info: path_info.store_path.digest)
    assert database.most <= 4
