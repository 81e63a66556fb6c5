"""Guards keep what every service promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from plugins.guard.guarded import TAGS, guarded_blobs, guarded_directories, guarded_path_infos
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


class TestBlobs(BlobServiceSuite):
    @pytest.fixture(params=TAGS)
    async def service(self, request: pytest.FixtureRequest) -> AsyncIterator[BlobService]:
        async with guarded_blobs(request.param) as service:
            yield service


class TestDirectories(DirectoryServiceSuite):
    @pytest.fixture(params=TAGS)
    async def service(self, request: pytest.FixtureRequest) -> AsyncIterator[DirectoryService]:
        async with guarded_directories(request.param) as service:
            yield service


class TestPathInfos(PathInfoServiceSuite):
    @pytest.fixture(params=TAGS)
    async def service(self, request: pytest.FixtureRequest) -> AsyncIterator[PathInfoService]:
        async with guarded_path_infos(request.param) as service:
            yield service


CHANGING = ["verify", "singleflight"]  # the others pass every call on as it is


@pytest.mark.parametrize("tag", CHANGING)
def test_blobs_answer_as_a_dict_does(tag: str) -> None:
    run_blob_state_machine(partial(guarded_blobs, tag))


@pytest.mark.parametrize("tag", CHANGING)
def test_directories_answer_as_a_dict_does(tag: str) -> None:
    run_directory_state_machine(partial(guarded_directories, tag))


@pytest.mark.parametrize("tag", CHANGING)
def test_path_infos_answer_as_a_dict_does(tag: str) -> None:
    run_path_info_state_machine(partial(guarded_path_infos, tag))
