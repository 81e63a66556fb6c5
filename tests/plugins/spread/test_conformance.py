"""Every combinator keeps what every service promises, over services in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from plugins.spread.spreading import BLOBS, DIRECTORIES, PATH_INFOS, opened
from tvix_store.blob import BlobService
from tvix_store.directory import DirectoryService
from tvix_store.path_info import PathInfoService
from tvix_store.testing import (
    BlobServiceSuite,
    DirectoryServiceSuite,
    PathInfoServiceSuite,
    run_blob_state_machine,
    run_directory_state_machine,
    run_path_info_state_machine,
)


class TestBlobService(BlobServiceSuite):
    @pytest.fixture(params=BLOBS)
    async def service(self, request: pytest.FixtureRequest) -> AsyncIterator[BlobService]:
        async with BLOBS[request.param]() as service:
            yield service


class TestDirectoryService(DirectoryServiceSuite):
    @pytest.fixture(params=DIRECTORIES)
    async def service(self, request: pytest.FixtureRequest) -> AsyncIterator[DirectoryService]:
        async with DIRECTORIES[request.param]() as service:
            yield service


class TestPathInfoService(PathInfoServiceSuite):
    @pytest.fixture(params=PATH_INFOS)
    async def service(self, request: pytest.FixtureRequest) -> AsyncIterator[PathInfoService]:
        async with PATH_INFOS[request.param]() as service:
            yield service


@pytest.mark.parametrize("name", ["mirror", "mirror-round-robin", "shard", "route-size"])
def test_blobs_answer_as_a_dict_does(name: str) -> None:
    run_blob_state_machine(opened(BLOBS[name]), max_examples=10)


@pytest.mark.parametrize("name", ["fallback", "mirror", "shard"])
def test_directories_answer_as_a_dict_does(name: str) -> None:
    run_directory_state_machine(opened(DIRECTORIES[name]), max_examples=10)


@pytest.mark.parametrize("name", ["mirror", "shard", "route-patterns"])
def test_path_infos_answer_as_a_dict_does(name: str) -> None:
    run_path_info_state_machine(opened(PATH_INFOS[name]), max_examples=10)
