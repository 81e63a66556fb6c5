"""The SQLite services keep what every service promises."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from tvix_store.blob import BlobService
from tvix_store.capabilities import Durability
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.path_info import PathInfoService
from tvix_store.testing import (
    BlobDamageTests,
    BlobPersistenceTests,
    DirectoryDamageTests,
    DirectoryPersistenceTests,
    PathInfoDamageTests,
    PathInfoPersistenceTests,
    run_blob_state_machine,
    run_directory_state_machine,
    run_path_info_state_machine,
)
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.directory import SqliteDirectoryService
from tvix_store_sqlite.path_info import SqlitePathInfoService


def damage_row(database: Database, table: str, digest: bytes, *, cut: bool = False) -> int:
    """Change a bit in the middle of what is stored, or cut the last byte off; how many rows that was."""
    with closing(sqlite3.connect(database.path)) as connection, connection:
        row = connection.execute(f"SELECT data FROM {table} WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            return 0
        data = bytearray(row[0])
        data[len(data) // 2] ^= 1
        damaged = bytes(data[:-1] if cut else data)
        return connection.execute(f"UPDATE {table} SET data = ? WHERE digest = ?", (damaged, digest)).rowcount


class _Databases:
    """Opens databases that are closed at the end of a test."""

    @pytest.fixture
    async def databases(self) -> AsyncIterator[AsyncExitStack]:
        async with AsyncExitStack() as self.stack:
            yield self.stack

    async def database(self, path: Path | str) -> Database:
        return await self.stack.enter_async_context(await Database.open(str(path)))


class TestSqliteBlobService(_Databases, BlobPersistenceTests, BlobDamageTests):
    @pytest.fixture
    async def service(self, tmp_path: Path, databases: AsyncExitStack) -> BlobService:
        return SqliteBlobService("test", await self.database(tmp_path / "store.sqlite"))

    async def reopen(self, service: BlobService) -> BlobService:
        assert isinstance(service, SqliteBlobService)
        await service.aclose()
        await service.database.aclose()
        return SqliteBlobService("test", await self.database(service.database.path))

    async def damage(self, service: BlobService, digest: B3Digest) -> None:
        assert isinstance(service, SqliteBlobService)
        chunks = await service.chunks(digest)
        assert chunks is not None
        digests = [chunk.digest for chunk in chunks[len(chunks) // 2 :]] or [digest]
        assert damage_row(service.database, "content", digests[0].raw) == 1


class TestSqliteDirectoryService(_Databases, DirectoryPersistenceTests, DirectoryDamageTests):
    @pytest.fixture
    async def service(self, tmp_path: Path, databases: AsyncExitStack) -> DirectoryService:
        return SqliteDirectoryService("test", await self.database(tmp_path / "store.sqlite"))

    async def reopen(self, service: DirectoryService) -> DirectoryService:
        assert isinstance(service, SqliteDirectoryService)
        await service.aclose()
        await service.database.aclose()
        return SqliteDirectoryService("test", await self.database(service.database.path))

    async def damage(self, service: DirectoryService, digest: B3Digest) -> None:
        assert isinstance(service, SqliteDirectoryService)
        assert damage_row(service.database, "directory", digest.raw) == 1


class TestSqlitePathInfoService(_Databases, PathInfoPersistenceTests, PathInfoDamageTests):
    @pytest.fixture
    async def service(self, tmp_path: Path, databases: AsyncExitStack) -> PathInfoService:
        return SqlitePathInfoService("test", await self.database(tmp_path / "store.sqlite"))

    async def reopen(self, service: PathInfoService) -> PathInfoService:
        assert isinstance(service, SqlitePathInfoService)
        await service.aclose()
        await service.database.aclose()
        return SqlitePathInfoService("test", await self.database(service.database.path))

    async def damage(self, service: PathInfoService, digest: bytes) -> None:
        assert isinstance(service, SqlitePathInfoService)
        assert damage_row(service.database, "path_info", digest, cut=True) == 1


@asynccontextmanager
async def temporary() -> AsyncIterator[Database]:
    async with await Database.open(None) as database:
        assert database.durability is Durability.NONE
        yield database


def test_blobs_answer_as_a_dict_does() -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[BlobService]:
        async with temporary() as database:
            yield SqliteBlobService("test", database)

    run_blob_state_machine(factory)


def test_directories_answer_as_a_dict_does() -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[DirectoryService]:
        async with temporary() as database:
            yield SqliteDirectoryService("test", database)

    run_directory_state_machine(factory)


def test_path_infos_answer_as_a_dict_does() -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[PathInfoService]:
        async with temporary() as database:
            yield SqlitePathInfoService("test", database)

    run_path_info_state_machine(factory)
