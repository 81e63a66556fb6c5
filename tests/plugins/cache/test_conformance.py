"""Caches, what was used last and remembered answers keep what every service promises, while nothing else is far."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from plugins.fs.fs_store import flip, open_service, placed
from tvix_store.blob import BlobService
from tvix_store.capabilities import Durability
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.limits import MIB
from tvix_store.path_info import PathInfoService
from tvix_store.testing import (
    BlobDamageTests,
    BlobPersistenceTests,
    BlobServiceSuite,
    DirectoryDamageTests,
    DirectoryPersistenceTests,
    DirectoryServiceSuite,
    PathInfoDamageTests,
    PathInfoPersistenceTests,
    PathInfoServiceSuite,
    run_blob_state_machine,
    run_directory_state_machine,
    run_path_info_state_machine,
)
from tvix_store_cache.answers import Answers
from tvix_store_cache.blob import CacheBlobService
from tvix_store_cache.directory import CacheDirectoryService
from tvix_store_cache.exists_blob import ExistsBlobService
from tvix_store_cache.exists_directory import ExistsDirectoryService
from tvix_store_cache.exists_path_info import ExistsPathInfoService
from tvix_store_cache.lru import Lru
from tvix_store_cache.lru_blob import LruBlobService
from tvix_store_cache.lru_directory import LruDirectoryService
from tvix_store_cache.lru_path_info import LruPathInfoService
from tvix_store_cache.path_info import CachePathInfoService
from tvix_store_cache.remembered import Remembered
from tvix_store_cache.sides import CachePolicy, WriteTo
from tvix_store_fs.blob import FsBlobService
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.directory import SqliteDirectoryService
from tvix_store_sqlite.path_info import SqlitePathInfoService

REMEMBERING = CachePolicy(negative_ttl_s=3600)
FAR = CachePolicy(write_to=WriteTo.FAR, negative_ttl_s=3600)
BOTH = CachePolicy(write_to=WriteTo.BOTH, negative_ttl_s=3600)


def remembering() -> Answers:
    return Answers(Remembered(3600, 1000), Remembered(3600, 1000))


def flip_held(lru: Lru, key: bytes) -> None:
    """Change a bit in the middle of what is held."""
    data = bytearray(lru.look(key) or b"")
    data[len(data) // 2] ^= 1
    lru.put(key, bytes(data))


# Blobs


class TestCacheBlobService(BlobServiceSuite):
    @pytest.fixture
    async def service(self) -> BlobService:
        return CacheBlobService("test", MemoryBlobService(), MemoryBlobService(), REMEMBERING)


class TestWriteThroughBlobs(BlobServiceSuite):
    @pytest.fixture
    async def service(self) -> BlobService:
        return CacheBlobService("test", MemoryBlobService(), MemoryBlobService(), BOTH)


class TestWriteAroundBlobs(BlobServiceSuite):
    @pytest.fixture
    async def service(self) -> BlobService:
        return CacheBlobService("test", MemoryBlobService(), MemoryBlobService(), FAR)


class TestCombinedBlobs(BlobServiceSuite):
    @pytest.fixture
    async def service(self) -> BlobService:
        return CacheBlobService("test", MemoryBlobService(), MemoryBlobService(), CachePolicy(fills=False))


class TestLruBlobService(BlobDamageTests):
    @pytest.fixture
    async def service(self) -> BlobService:
        return LruBlobService(Lru(512 * MIB))

    async def damage(self, service: BlobService, digest: B3Digest) -> None:
        assert isinstance(service, LruBlobService)
        flip_held(service.lru, digest.raw)


class TestExistsBlobService(BlobServiceSuite):
    @pytest.fixture
    async def service(self) -> BlobService:
        return ExistsBlobService(MemoryBlobService(), remembering())


class TestCacheNearFs(BlobPersistenceTests, BlobDamageTests):
    """Near is the pack store, as a composition hands it out; far there is nothing that could heal it."""

    @pytest.fixture
    async def service(self, tmp_path: Path) -> AsyncIterator[BlobService]:
        async with AsyncExitStack() as self.stack:
            yield await self.open(tmp_path / "near")

    async def open(self, path: Path) -> BlobService:
        near = CheckedBlobService("near", await open_service(path, durability=Durability.NONE))
        return CacheBlobService("test", await self.stack.enter_async_context(near), MemoryBlobService())

    def near(self, service: BlobService) -> FsBlobService:
        assert isinstance(service, CacheBlobService)
        assert isinstance(service.near, CheckedBlobService)
        assert isinstance(service.near.inner, FsBlobService)
        return service.near.inner

    async def reopen(self, service: BlobService) -> BlobService:
        near = self.near(service)
        await near.aclose()
        return await self.open(Path(near.store.layout.path))

    async def damage(self, service: BlobService, digest: B3Digest) -> None:
        near = self.near(service)
        chunks = await near.chunks(digest) or ()
        digests = [chunk.digest for chunk in chunks[len(chunks) // 2 :]] or [digest]
        place = await placed(near.store, digests[0])
        flip(Path(near.store.packs.path(place.pack)), place.position + place.size - 1)
        near.store.reader.clear()


# Directories


class TestCacheDirectoryService(DirectoryDamageTests):
    @pytest.fixture
    async def service(self) -> DirectoryService:
        near = CheckedDirectoryService("near", MemoryDirectoryService())
        return CacheDirectoryService("test", near, MemoryDirectoryService(), REMEMBERING)

    async def damage(self, service: DirectoryService, digest: B3Digest) -> None:
        assert isinstance(service, CacheDirectoryService)
        assert isinstance(service.near, CheckedDirectoryService)
        assert isinstance(service.near.inner, MemoryDirectoryService)
        service.near.inner.encodings[digest.raw] += b"\0"


class TestWriteThroughDirectories(DirectoryServiceSuite):
    @pytest.fixture
    async def service(self) -> DirectoryService:
        return CacheDirectoryService("test", MemoryDirectoryService(), MemoryDirectoryService(), BOTH)


class TestWriteAroundDirectories(DirectoryServiceSuite):
    @pytest.fixture
    async def service(self) -> DirectoryService:
        return CacheDirectoryService("test", MemoryDirectoryService(), MemoryDirectoryService(), FAR)


class TestCombinedDirectories(DirectoryServiceSuite):
    @pytest.fixture
    async def service(self) -> DirectoryService:
        sides = MemoryDirectoryService(), MemoryDirectoryService()
        return CacheDirectoryService("test", *sides, CachePolicy(fills=False))


class TestLruDirectoryService(DirectoryDamageTests):
    @pytest.fixture
    async def service(self) -> DirectoryService:
        return LruDirectoryService("test", Lru(64 * MIB))

    async def damage(self, service: DirectoryService, digest: B3Digest) -> None:
        assert isinstance(service, LruDirectoryService)
        flip_held(service.lru, digest.raw)


class TestExistsDirectoryService(DirectoryServiceSuite):
    @pytest.fixture
    async def service(self) -> DirectoryService:
        return ExistsDirectoryService(MemoryDirectoryService(), remembering())


class _Databases:
    """One database at a time, which is opened again."""

    @pytest.fixture
    async def database(self, tmp_path: Path) -> AsyncIterator[Database]:
        async with AsyncExitStack() as self.stack:
            yield await self.open(str(tmp_path / "near.sqlite"))

    async def open(self, path: str) -> Database:
        self.opened = await self.stack.enter_async_context(await Database.open(path))
        return self.opened

    async def open_again(self) -> Database:
        await self.opened.aclose()
        assert self.opened.path is not None
        return await self.open(self.opened.path)


class TestCacheDirectoriesNearSqlite(_Databases, DirectoryPersistenceTests):
    def cache(self, database: Database) -> DirectoryService:
        near = CheckedDirectoryService("near", SqliteDirectoryService("near", database))
        return CacheDirectoryService("test", near, MemoryDirectoryService())

    @pytest.fixture
    async def service(self, database: Database) -> DirectoryService:
        return self.cache(database)

    async def reopen(self, service: DirectoryService) -> DirectoryService:
        return self.cache(await self.open_again())


# Path infos


class TestCachePathInfoService(PathInfoDamageTests):
    @pytest.fixture
    async def service(self) -> AsyncIterator[PathInfoService]:
        near = CheckedPathInfoService("near", MemoryPathInfoService())
        async with CachePathInfoService("test", near, MemoryPathInfoService(), REMEMBERING) as service:
            yield service

    async def damage(self, service: PathInfoService, digest: bytes) -> None:
        assert isinstance(service, CachePathInfoService)
        assert isinstance(service.near, CheckedPathInfoService)
        assert isinstance(service.near.inner, MemoryPathInfoService)
        encodings = service.near.inner.encodings
        encodings[digest] = encodings[digest][:-1]


class TestWriteThroughPathInfos(PathInfoServiceSuite):
    @pytest.fixture
    async def service(self) -> AsyncIterator[PathInfoService]:
        sides = MemoryPathInfoService(), MemoryPathInfoService()
        async with CachePathInfoService("test", *sides, BOTH) as service:
            yield service


class TestWriteAroundPathInfos(PathInfoServiceSuite):
    @pytest.fixture
    async def service(self) -> AsyncIterator[PathInfoService]:
        sides = MemoryPathInfoService(), MemoryPathInfoService()
        async with CachePathInfoService("test", *sides, FAR) as service:
            yield service


class TestCombinedPathInfos(PathInfoServiceSuite):
    @pytest.fixture
    async def service(self) -> AsyncIterator[PathInfoService]:
        sides = MemoryPathInfoService(), MemoryPathInfoService()
        async with CachePathInfoService("test", *sides, CachePolicy(fills=False)) as service:
            yield service


class TestLruPathInfoService(PathInfoDamageTests):
    @pytest.fixture
    async def service(self) -> PathInfoService:
        return LruPathInfoService("test", Lru(64 * MIB))

    async def damage(self, service: PathInfoService, digest: bytes) -> None:
        assert isinstance(service, LruPathInfoService)
        data = service.lru.look(digest)
        assert data is not None
        service.lru.put(digest, data[:-1])


class TestExistsPathInfoService(PathInfoServiceSuite):
    @pytest.fixture
    async def service(self) -> PathInfoService:
        return ExistsPathInfoService(MemoryPathInfoService(), remembering())


class TestCachePathInfosNearSqlite(_Databases, PathInfoPersistenceTests):
    def cache(self, database: Database) -> PathInfoService:
        near = CheckedPathInfoService("near", SqlitePathInfoService("near", database))
        return CachePathInfoService("test", near, MemoryPathInfoService())

    @pytest.fixture
    async def service(self, database: Database) -> PathInfoService:
        return self.cache(database)

    async def reopen(self, service: PathInfoService) -> PathInfoService:
        return self.cache(await self.open_again())


# State machines


def test_blobs_answer_as_a_dict_does() -> None:
    """Through every combinator of this plugin at once, with little room in memory."""

    @asynccontextmanager
    async def factory() -> AsyncIterator[BlobService]:
        disk, far = MemoryBlobService(), MemoryBlobService()
        inner = CacheBlobService("inner", disk, ExistsBlobService(far, remembering()), BOTH)
        yield CacheBlobService("test", LruBlobService(Lru(2 * MIB)), inner, BOTH)

    run_blob_state_machine(factory)


def test_directories_answer_as_a_dict_does() -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[DirectoryService]:
        inner = ExistsDirectoryService(MemoryDirectoryService(), remembering())
        yield CacheDirectoryService("test", LruDirectoryService("near", Lru(MIB, 3)), inner, BOTH)

    run_directory_state_machine(factory)


def test_path_infos_answer_as_a_dict_does() -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[PathInfoService]:
        inner = ExistsPathInfoService(MemoryPathInfoService(), remembering())
        lru = LruPathInfoService("near", Lru(MIB, 3))
        async with CachePathInfoService("test", lru, inner, BOTH) as service:
            yield service

    run_path_info_state_machine(factory)
