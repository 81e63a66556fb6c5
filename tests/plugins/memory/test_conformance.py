"""The memory services keep what every service promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tvix_store.blob import BlobService
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.path_info import PathInfoService
from tvix_store.testing import (
    BlobDamageTests,
    DirectoryDamageTests,
    PathInfoDamageTests,
    run_blob_state_machine,
    run_directory_state_machine,
    run_path_info_state_machine,
)
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService


def flip(data: bytes) -> bytes:
    """One bit of the last byte is another."""
    return data[:-1] + bytes([data[-1] ^ 1])


class TestMemoryBlobService(BlobDamageTests):
    @pytest.fixture
    async def service(self) -> AsyncIterator[BlobService]:
        async with MemoryBlobService() as service:
            yield service

    async def damage(self, service: BlobService, digest: B3Digest) -> None:
        assert isinstance(service, MemoryBlobService)
        service.contents[digest.raw] = flip(service.contents[digest.raw])


class TestMemoryDirectoryService(DirectoryDamageTests):
    @pytest.fixture
    async def service(self) -> AsyncIterator[DirectoryService]:
        async with MemoryDirectoryService() as service:
            yield service

    async def damage(self, service: DirectoryService, digest: B3Digest) -> None:
        assert isinstance(service, MemoryDirectoryService)
        service.encodings[digest.raw] = flip(service.encodings[digest.raw])


class TestMemoryPathInfoService(PathInfoDamageTests):
    @pytest.fixture
    async def service(self) -> AsyncIterator[PathInfoService]:
        async with MemoryPathInfoService() as service:
            yield service

    async def damage(self, service: PathInfoService, digest: bytes) -> None:
        assert isinstance(service, MemoryPathInfoService)
        service.encodings[digest] = service.encodings[digest][:-1]


def test_blobs_answer_as_a_dict_does() -> None:
    run_blob_state_machine(MemoryBlobService)


def test_directories_answer_as_a_dict_does() -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[DirectoryService]:
        async with MemoryDirectoryService() as service:
            yield service

    run_directory_state_machine(factory)


def test_path_infos_answer_as_a_dict_does() -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[PathInfoService]:
        async with MemoryPathInfoService() as service:
            yield service

    run_path_info_state_machine(factory)
