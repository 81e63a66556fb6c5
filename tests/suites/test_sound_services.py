"""The suites pass on services that do no more than they must, and on some that can do everything."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from suites.dict_services import DictBlobService, DictDirectoryService, DictPathInfoService
from tvix_store.blob import BlobService
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.nodes import Directory, SymlinkNode
from tvix_store.path_info import PathInfo, PathInfoService
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
from tvix_store.testing.fixtures import PATH_INFO
from tvix_store.testing.minimal import MinimalBlobService, MinimalDirectoryService, MinimalPathInfoService


class TestMinimalBlobService(BlobServiceSuite):
    @pytest.fixture
    async def service(self) -> AsyncIterator[BlobService]:
        async with MinimalBlobService() as service:
            yield service


class TestMinimalDirectoryService(DirectoryServiceSuite):
    @pytest.fixture
    async def service(self) -> AsyncIterator[DirectoryService]:
        async with MinimalDirectoryService() as service:
            yield service


class TestMinimalPathInfoService(PathInfoServiceSuite):
    @pytest.fixture
    async def service(self) -> AsyncIterator[PathInfoService]:
        async with MinimalPathInfoService() as service:
            yield service


class TestDictBlobService(BlobDamageTests, BlobPersistenceTests):
    @pytest.fixture
    async def service(self) -> AsyncIterator[BlobService]:
        async with DictBlobService() as service:
            yield service

    async def reopen(self, service: BlobService) -> BlobService:
        assert isinstance(service, DictBlobService)
        await service.aclose()
        return DictBlobService(service.storage)

    async def damage(self, service: BlobService, digest: B3Digest) -> None:
        assert isinstance(service, DictBlobService)
        chunk = service.storage.blobs[digest][-1].digest
        data = service.storage.chunks[chunk]
        service.storage.chunks[chunk] = data[:-1] + bytes([data[-1] ^ 1])


class TestDictDirectoryService(DirectoryDamageTests, DirectoryPersistenceTests):
    @pytest.fixture
    async def service(self) -> AsyncIterator[DirectoryService]:
        async with DictDirectoryService() as service:
            yield service

    async def reopen(self, service: DirectoryService) -> DirectoryService:
        assert isinstance(service, DictDirectoryService)
        await service.aclose()
        return DictDirectoryService(service.directories)

    async def damage(self, service: DirectoryService, digest: B3Digest) -> None:
        assert isinstance(service, DictDirectoryService)
        service.directories[digest] = Directory({b"another": SymlinkNode(b"directory")})


class TestDictPathInfoService(PathInfoDamageTests, PathInfoPersistenceTests):
    @pytest.fixture
    async def service(self) -> AsyncIterator[PathInfoService]:
        async with DictPathInfoService() as service:
            yield service

    async def reopen(self, service: PathInfoService) -> PathInfoService:
        assert isinstance(service, DictPathInfoService)
        await service.aclose()
        return DictPathInfoService(service.path_infos)

    async def damage(self, service: PathInfoService, digest: bytes) -> None:
        assert isinstance(service, DictPathInfoService)
        service.path_infos[digest] = PATH_INFO


class TestStateMachines:
    @pytest.mark.parametrize("service", [MinimalBlobService, DictBlobService])
    def test_blob_services_agree_with_the_model(self, service: type[BlobService]) -> None:
        run_blob_state_machine(service)

    @pytest.mark.parametrize("service", [MinimalDirectoryService, DictDirectoryService])
    def test_directory_services_agree_with_the_model(self, service: type[DirectoryService]) -> None:
        run_directory_state_machine(service)

    @pytest.mark.parametrize("service", [MinimalPathInfoService, DictPathInfoService])
    def test_path_info_services_agree_with_the_model(self, service: type[PathInfoService]) -> None:
        run_path_info_state_machine(service)

    def test_each_machine_opens_and_closes_its_service(self) -> None:
        opened: list[MinimalBlobService] = []
        closed: list[BlobService] = []

        @asynccontextmanager
        async def factory() -> AsyncIterator[BlobService]:
            opened.append(MinimalBlobService())
            yield opened[-1]
            closed.append(opened[-1])

        run_blob_state_machine(factory, max_examples=3)
        assert len(opened) >= 3
        assert opened == closed


class ForgetsOldBlobs(MinimalBlobService):
    """Wrong only after some operations: the sixth blob pushes out the first."""

    async def put_many(self, blobs: object) -> None:
        await super().put_many(blobs)  # type: ignore[arg-type]
        while len(self.blobs) > 5:
            del self.blobs[next(iter(self.blobs))]


class ForgetsChildren(DictDirectoryService):
    """Deleting a directory takes what it refers to along."""

    async def delete(self, digests: object) -> None:
        for digest in list(digests):  # type: ignore[call-overload]
            directory = self.directories.pop(digest, Directory())
            for _, child in directory.directories():
                self.directories.pop(child.digest, None)


class GathersSignatures(MinimalPathInfoService):
    """A put keeps the signatures of the path info it replaces, in front of its own."""

    async def put(self, path_info: PathInfo) -> PathInfo:
        before = self.path_infos.get(path_info.store_path.digest)
        if before is not None and before.nar_size == path_info.nar_size:
            path_info = before.with_signatures(*path_info.signatures)
        return await super().put(path_info)


class TestSeededBugs:
    def test_blob_machine_finds_one(self) -> None:
        with pytest.raises(AssertionError):
            run_blob_state_machine(ForgetsOldBlobs, max_examples=300)

    def test_directory_machine_finds_one(self) -> None:
        with pytest.raises(AssertionError):
            run_directory_state_machine(ForgetsChildren, max_examples=300)

    def test_path_info_machine_finds_one(self) -> None:
        with pytest.raises(AssertionError):
            run_path_info_state_machine(GathersSignatures, max_examples=300)
