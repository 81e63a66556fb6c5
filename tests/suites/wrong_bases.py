"""What the test classes of wrong services have in common: all that a suite can be told to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from suites.dict_services import DictBlobService, DictDirectoryService, DictPathInfoService
from tvix_store.blob import BlobService
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.nodes import Directory, SymlinkNode
from tvix_store.path_info import PathInfoService
from tvix_store.testing import (
    BlobDamageTests,
    BlobPersistenceTests,
    DirectoryDamageTests,
    DirectoryPersistenceTests,
    PathInfoDamageTests,
    PathInfoPersistenceTests,
)
from tvix_store.testing.fixtures import PATH_INFO

__all__ = ["WrongBlobs", "WrongDirectories", "WrongPathInfos"]


class WrongBlobs(BlobPersistenceTests, BlobDamageTests):
    breaks: ClassVar[set[str]]
    Service: ClassVar[type[DictBlobService]]

    @pytest.fixture
    async def service(self) -> AsyncIterator[BlobService]:
        async with self.Service() as service:
            yield service

    async def reopen(self, service: BlobService) -> BlobService:
        assert isinstance(service, DictBlobService)
        await service.aclose()
        return self.Service(service.storage)

    async def damage(self, service: BlobService, digest: B3Digest) -> None:
        assert isinstance(service, DictBlobService)
        chunk = service.storage.blobs[digest][-1].digest
        data = service.storage.chunks[chunk]
        service.storage.chunks[chunk] = data[:-1] + bytes([data[-1] ^ 1])


class WrongDirectories(DirectoryPersistenceTests, DirectoryDamageTests):
    breaks: ClassVar[set[str]]
    Service: ClassVar[type[DictDirectoryService]]

    @pytest.fixture
    async def service(self) -> AsyncIterator[DirectoryService]:
        async with self.Service() as service:
            yield service

    async def reopen(self, service: DirectoryService) -> DirectoryService:
        assert isinstance(service, DictDirectoryService)
        await service.aclose()
        return self.Service(service.directories)

    async def damage(self, service: DirectoryService, digest: B3Digest) -> None:
        assert isinstance(service, DictDirectoryService)
        service.directories[digest] = Directory({b"another": SymlinkNode(b"directory")})


class WrongPathInfos(PathInfoPersistenceTests, PathInfoDamageTests):
    breaks: ClassVar[set[str]]
    Service: ClassVar[type[DictPathInfoService]]

    @pytest.fixture
    async def service(self) -> AsyncIterator[PathInfoService]:
        async with self.Service() as service:
            yield service

    async def reopen(self, service: PathInfoService) -> PathInfoService:
        assert isinstance(service, DictPathInfoService)
        await service.aclose()
        return self.Service(service.path_infos)

    async def damage(self, service: PathInfoService, digest: bytes) -> None:
        assert isinstance(service, DictPathInfoService)
        service.path_infos[digest] = PATH_INFO
