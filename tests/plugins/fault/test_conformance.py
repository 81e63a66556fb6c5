"""What never fails on purpose keeps what every service promises; and what only gives short pieces does so, too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tvix_store.blob import BlobService
from tvix_store.directory import DirectoryService
from tvix_store.path_info import PathInfoService
from tvix_store.testing import BlobServiceSuite, DirectoryServiceSuite, PathInfoServiceSuite
from tvix_store_fault.blob import FaultBlobService
from tvix_store_fault.directory import FaultDirectoryService
from tvix_store_fault.faults import Faults
from tvix_store_fault.path_info import FaultPathInfoService
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService


class TestBlobs(BlobServiceSuite):
    @pytest.fixture
    async def service(self) -> AsyncIterator[BlobService]:
        async with MemoryBlobService() as inner, FaultBlobService(inner, Faults("test")) as service:
            yield service


class TestDirectories(DirectoryServiceSuite):
    @pytest.fixture
    async def service(self) -> AsyncIterator[DirectoryService]:
        async with MemoryDirectoryService("inner") as inner, FaultDirectoryService(inner, Faults("test")) as service:
            yield service


class TestPathInfos(PathInfoServiceSuite):
    @pytest.fixture
    async def service(self) -> AsyncIterator[PathInfoService]:
        async with MemoryPathInfoService("inner") as inner, FaultPathInfoService(inner, Faults("test")) as service:
            yield service
