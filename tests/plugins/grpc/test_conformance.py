"""The conformance suites over a loopback daemon: with batches, and as a peer that has only the standard protocols."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from plugins.grpc.loopback import connected, memory_services
from tvix_store.blob import BlobService
from tvix_store.directory import DirectoryService
from tvix_store.path_info import PathInfoService
from tvix_store.testing.blob_suite import BlobServiceSuite
from tvix_store.testing.directory_suite import DirectoryServiceSuite
from tvix_store.testing.path_info_suite import PathInfoServiceSuite
from tvix_store.testing.stateful import (
    run_blob_state_machine,
    run_directory_state_machine,
    run_path_info_state_machine,
)
from tvix_store_grpc.blob import GrpcBlobService
from tvix_store_grpc.channel import Peer
from tvix_store_grpc.directory import GrpcDirectoryService
from tvix_store_grpc.path_info import GrpcPathInfoService


class TestGrpcBlobService(BlobServiceSuite):
    batches = True

    @pytest.fixture
    async def service(self, tmp_path: Path) -> AsyncIterator[BlobService]:
        async with connected(memory_services(), tmp_path / "socket", batches=self.batches) as peer:
            await peer.speech()
            yield GrpcBlobService("remote", peer)


class TestGrpcBlobServiceWithoutBatches(TestGrpcBlobService):
    batches = False


class TestGrpcDirectoryService(DirectoryServiceSuite):
    @pytest.fixture
    async def service(self, tmp_path: Path) -> AsyncIterator[DirectoryService]:
        async with connected(memory_services(), tmp_path / "socket") as peer:
            await peer.speech()
            yield GrpcDirectoryService("remote", peer)


class TestGrpcPathInfoService(PathInfoServiceSuite):
    batches = True

    @pytest.fixture
    async def service(self, tmp_path: Path) -> AsyncIterator[PathInfoService]:
        async with connected(memory_services(), tmp_path / "socket", batches=self.batches) as peer:
            await peer.speech()
            yield GrpcPathInfoService("remote", peer)


class TestGrpcPathInfoServiceWithoutBatches(TestGrpcPathInfoService):
    batches = False


class TestGrpcDirectoryServiceWithoutBatches(DirectoryServiceSuite):
    @pytest.fixture
    async def service(self, tmp_path: Path) -> AsyncIterator[DirectoryService]:
        async with connected(memory_services(), tmp_path / "socket", batches=False) as peer:
            await peer.speech()
            yield GrpcDirectoryService("remote", peer)


# The standard protocols take whole trees only, so there a directory cannot be put without its children;
# test_standard_peers.py has what happens then.
for name in (
    "test_absent_directory_is_none_not_an_error",
    "test_directory_is_found_by_its_golden_digest",
    "test_every_kind_of_node_is_kept",
    "test_directory_is_taken_without_its_children",
    "test_put_many_takes_directories_in_any_order",
    "test_recursive_tells_of_a_missing_directory",
):
    assert hasattr(DirectoryServiceSuite, name)
    setattr(TestGrpcDirectoryServiceWithoutBatches, name, None)


def services_over(tmp_path: Path) -> AbstractAsyncContextManager[Peer]:
    return connected(memory_services(), tmp_path / f"socket-{next(numbers)}")


numbers = itertools.count()


def test_blobs_do_as_a_dict_does(tmp_path: Path) -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[BlobService]:
        async with services_over(tmp_path) as peer:
            yield GrpcBlobService("remote", peer)

    run_blob_state_machine(opened, max_examples=5, max_steps=20)


def test_directories_do_as_a_dict_does(tmp_path: Path) -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[DirectoryService]:
        async with services_over(tmp_path) as peer:
            yield GrpcDirectoryService("remote", peer)

    run_directory_state_machine(opened, max_examples=5, max_steps=20)


def test_path_infos_do_as_a_dict_does(tmp_path: Path) -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[PathInfoService]:
        async with services_over(tmp_path) as peer:
            yield GrpcPathInfoService("remote", peer)

    run_path_info_state_machine(opened, max_examples=5, max_steps=20)
