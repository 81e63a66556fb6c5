"""Mirrors and shards over what stays on disk: they survive a restart, and what rots is noticed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from plugins.fs.fs_store import flip, open_service, placed
from plugins.sqlite.test_conformance import damage_row
from tvix_store.blob import BlobService
from tvix_store.capabilities import Durability
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
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
)
from tvix_store.testing.blob_access import verify_blobs, write_blob
from tvix_store.testing.fixtures import DIRECTORY_B, PATH_INFO, contents
from tvix_store_fs.blob import FsBlobService
from tvix_store_spread.mirror import MirrorOptions
from tvix_store_spread.mirror_blob import MirrorBlobService
from tvix_store_spread.mirror_directory import MirrorDirectoryService
from tvix_store_spread.mirror_path_info import MirrorPathInfoService
from tvix_store_spread.shard_blob import ShardBlobService
from tvix_store_spread.shard_directory import ShardDirectoryService
from tvix_store_spread.shard_path_info import ShardPathInfoService
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.directory import SqliteDirectoryService
from tvix_store_sqlite.path_info import SqlitePathInfoService

OPTIONS = MirrorOptions(2)
BATCHED = Durability.BATCHED  # several of each would keep the disk waiting for nothing


class _OnDisk:
    """Opens what is inside below ``folder``, and closes it at the end of a test, or to open it again."""

    @pytest.fixture
    async def folder(self, tmp_path: Path) -> AsyncIterator[Path]:
        self._folder = tmp_path
        self._stack = AsyncExitStack()
        yield tmp_path
        await self._stack.aclose()

    async def closed(self) -> None:
        await self._stack.aclose()

    async def fs(self, name: str) -> BlobService:
        service = await self._stack.enter_async_context(await open_service(self._folder / name, durability=BATCHED))
        return CheckedBlobService(name, service)

    async def database(self, name: str) -> Database:
        return await self._stack.enter_async_context(
            await Database.open(str(self._folder / f"{name}.sqlite"), durability=BATCHED)
        )


class TestMirrorOfTwoPackStores(_OnDisk, BlobPersistenceTests, BlobDamageTests):
    @pytest.fixture
    async def service(self, folder: Path) -> AsyncIterator[BlobService]:
        async with await self.opened() as service:
            yield service

    async def opened(self) -> BlobService:
        return MirrorBlobService("test", {name: await self.fs(name) for name in "ab"}, OPTIONS)

    async def reopen(self, service: BlobService) -> BlobService:
        await service.aclose()
        await self.closed()
        return await self.opened()

    async def damage(self, service: BlobService, digest: B3Digest) -> None:
        """In all replicas."""
        assert isinstance(service, MirrorBlobService)
        for member in service.members.values():
            assert isinstance(member, CheckedBlobService)
            assert isinstance(member.inner, FsBlobService)
            store = member.inner.store
            chunks = await member.chunks(digest)
            assert chunks is not None
            digests = [chunk.digest for chunk in chunks[len(chunks) // 2 :]] or [digest]
            place = await placed(store, digests[0])
            flip(Path(store.packs.path(place.pack)), place.position + place.size - 1)
            store.reader.clear()

    @pytest.mark.parametrize("size", [12])
    async def test_damaged_blob_is_found_by_verifying(
        self, service: BlobService, store: BlobService, size: int
    ) -> None:
        """In each replica."""
        digest = await write_blob(store, contents(size))
        await self.damage(service, digest)
        damages = [damage for damage in await verify_blobs(store) if damage.kind == "blob"]
        assert [damage.digest for damage in damages] == [str(digest)] * 2
        assert [str(damage.location)[0] for damage in damages] == ["a", "b"]


class TestShardOfFourDatabases(_OnDisk, BlobPersistenceTests, BlobDamageTests):
    @pytest.fixture
    async def service(self, folder: Path) -> BlobService:
        return await self.opened()

    async def opened(self) -> BlobService:
        members: dict[str, BlobService] = {
            name: CheckedBlobService(name, SqliteBlobService(name, await self.database(name))) for name in "abcd"
        }
        return ShardBlobService("test", members, {}, str(self._folder))

    async def reopen(self, service: BlobService) -> BlobService:
        await self.closed()
        return await self.opened()

    async def damage(self, service: BlobService, digest: B3Digest) -> None:
        assert isinstance(service, ShardBlobService)
        owner = service.sharding.owner(digest.raw)
        assert isinstance(owner, CheckedBlobService)
        assert isinstance(owner.inner, SqliteBlobService)
        chunks = await owner.chunks(digest)
        assert chunks is not None
        digests = [chunk.digest for chunk in chunks[len(chunks) // 2 :]] or [digest]
        assert damage_row(owner.inner.database, "content", digests[0].raw) == 1


class _Directories(_OnDisk, DirectoryPersistenceTests, DirectoryDamageTests):
    @pytest.fixture
    async def service(self, folder: Path) -> AsyncIterator[DirectoryService]:
        async with await self.opened() as service:
            yield service

    async def opened(self) -> DirectoryService:
        raise NotImplementedError

    async def members(self, names: str) -> dict[str, DirectoryService]:
        return {
            name: CheckedDirectoryService(name, SqliteDirectoryService(name, await self.database(name)))
            for name in names
        }

    async def reopen(self, service: DirectoryService) -> DirectoryService:
        await service.aclose()
        await self.closed()
        return await self.opened()

    async def damage(self, service: DirectoryService, digest: B3Digest) -> None:
        assert isinstance(service, MirrorDirectoryService | ShardDirectoryService)
        n_rows = 0
        for member in service.members.values():
            assert isinstance(member, CheckedDirectoryService)
            assert isinstance(member.inner, SqliteDirectoryService)
            n_rows += damage_row(member.inner.database, "directory", digest.raw)
        assert n_rows


class TestMirrorOfDirectories(_Directories):
    async def opened(self) -> DirectoryService:
        return MirrorDirectoryService("test", await self.members("ab"), OPTIONS)

    async def test_damaged_directory_is_found_by_verifying(
        self, service: DirectoryService, store: DirectoryService
    ) -> None:
        """In each replica."""
        await store.put(DIRECTORY_B)
        await self.damage(service, DIRECTORY_B.digest)
        locations = [damage.location async for damage in store.verify()]
        assert [str(location)[0] for location in locations] == ["a", "b"]


class TestShardOfDirectories(_Directories):
    async def opened(self) -> DirectoryService:
        return ShardDirectoryService("test", await self.members("abcd"), {})


class _PathInfos(_OnDisk, PathInfoPersistenceTests, PathInfoDamageTests):
    @pytest.fixture
    async def service(self, folder: Path) -> AsyncIterator[PathInfoService]:
        async with await self.opened() as service:
            yield service

    async def opened(self) -> PathInfoService:
        raise NotImplementedError

    async def members(self, names: str) -> dict[str, PathInfoService]:
        return {
            name: CheckedPathInfoService(name, SqlitePathInfoService(name, await self.database(name))) for name in names
        }

    async def reopen(self, service: PathInfoService) -> PathInfoService:
        await service.aclose()
        await self.closed()
        return await self.opened()

    async def damage(self, service: PathInfoService, digest: bytes) -> None:
        assert isinstance(service, MirrorPathInfoService | ShardPathInfoService)
        n_rows = 0
        for member in service.members.values():
            assert isinstance(member, CheckedPathInfoService)
            assert isinstance(member.inner, SqlitePathInfoService)
            n_rows += damage_row(member.inner.database, "path_info", digest, cut=True)
        assert n_rows


class TestMirrorOfPathInfos(_PathInfos):
    async def opened(self) -> PathInfoService:
        return MirrorPathInfoService("test", await self.members("ab"), OPTIONS)

    async def test_damaged_path_info_is_found_by_verifying(
        self, service: PathInfoService, store: PathInfoService
    ) -> None:
        """In each replica."""
        await store.put(PATH_INFO)
        await self.damage(service, PATH_INFO.store_path.digest)
        locations = [damage.location async for damage in store.verify()]
        assert [str(location)[0] for location in locations] == ["a", "b"]


class TestShardOfPathInfos(_PathInfos):
    async def opened(self) -> PathInfoService:
        return ShardPathInfoService("test", await self.members("abcd"), {})
