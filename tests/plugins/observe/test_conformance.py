"""What is observed does what it does otherwise."""

from __future__ import annotations

import pytest

from tvix_store.blob import BlobService
from tvix_store.config import Kind
from tvix_store.directory import DirectoryService
from tvix_store.path_info import PathInfoService
from tvix_store.telemetry import Metrics
from tvix_store.telemetry_observer import (
    ObservedBlobService,
    ObservedDirectoryService,
    ObservedPathInfoService,
    Observer,
)
from tvix_store.testing import BlobServiceSuite, DirectoryServiceSuite, PathInfoServiceSuite
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService


class TestBlobs(BlobServiceSuite):
    @pytest.fixture
    def service(self) -> BlobService:
        return ObservedBlobService(MemoryBlobService(), Observer("test", Kind.BLOB, Metrics()))


class TestDirectories(DirectoryServiceSuite):
    @pytest.fixture
    def service(self) -> DirectoryService:
        return ObservedDirectoryService(MemoryDirectoryService(), Observer("test", Kind.DIRECTORY, Metrics()))


class TestPathInfos(PathInfoServiceSuite):
    @pytest.fixture
    def service(self) -> PathInfoService:
        return ObservedPathInfoService(MemoryPathInfoService(), Observer("test", Kind.PATH_INFO, Metrics()))
